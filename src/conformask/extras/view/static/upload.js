// Dialog for the upload of a pair: input and output of a network, and the truth if there is one.

import * as api from "./api.js";
import { $ } from "./dom.js";
import { progressText } from "./format.js";

const MIB = 2 ** 20;
const SUBMIT_TEXT = "Show it";
const LOADING_TEXT = "Reading …";
const dialog = $("#upload-dialog");
const form = $("#upload-form");
const submitButton = $("[type=submit]", form);

/** Open the dialog, without an error of an earlier upload. */
export function openUploadDialog() {
  showError("");
  dialog.showModal();
}

/** Fit the dialog to the server's limits and to the facts that the promise needs; report each image it uploaded. */
export function setUpUploadDialog({ most_bytes: maxBytes, suffixes, needs }, onUploaded) {
  const limit = `${maxBytes / MIB} MiB in total`;
  $("#upload-limits").textContent =
    `${suffixes.join(", ")}; up to ${limit}. The files stay on this machine, in memory.`;
  for (const label of form.querySelectorAll("[data-fact]")) {
    label.hidden = !needs.includes(label.dataset.fact);
    $("input", label).required = !label.hidden;
  }
  $("#close-upload").addEventListener("click", () => dialog.close());
  form.addEventListener("change", () => showError(""));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    // The server refuses it too, but this saves the transfer.
    if (totalFileSize() > maxBytes) showError(`the files are larger than ${limit}: crop the images`);
    else submit(onUploaded);
  });
}

const totalFileSize = () =>
  [...form.querySelectorAll("[type=file]")]
    .flatMap((input) => [...input.files])
    .reduce((sum, file) => sum + file.size, 0);

async function submit(onUploaded) {
  const formData = new FormData(form);
  for (const { name, files } of form.querySelectorAll("[type=file]"))
    if (!files.length) formData.delete(name); // a browser would send an empty file
  submitButton.disabled = true;
  submitButton.textContent = LOADING_TEXT;
  try {
    const { name } = await api.withProgress(api.uploadPair(formData), (progress) => {
      submitButton.textContent = progress ? progressText(progress) : LOADING_TEXT;
    });
    form.reset();
    dialog.close();
    await onUploaded(name);
  } catch (error) {
    showError(error.message);
  } finally {
    submitButton.disabled = false;
    submitButton.textContent = SUBMIT_TEXT;
  }
}

function showError(message) {
  $("#upload-error").hidden = !message;
  $("#upload-error").textContent = message;
}
