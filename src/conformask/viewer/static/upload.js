// The dialog that takes a pair; what cannot be used is said where it was chosen.

import * as api from "./api.js";
import { followed, tiles } from "./progress.js";

const MIB = 2 ** 20;
const READING = "Reading …";
const dialog = document.querySelector("#upload-dialog");
const form = document.querySelector("#upload-form");
const error = document.querySelector("#upload-error");
const submit = form.querySelector("[type=submit]");

const say = (text) => {
  error.hidden = !text;
  error.textContent = text;
};

export function openUpload() {
  say("");
  dialog.showModal();
}

export function prepareUpload({ most_bytes: most, suffixes, needs }, done) {
  document.querySelector("#upload-limits").textContent =
    `${suffixes.join(", ")}; up to ${most / MIB} MiB together. The files stay on this machine, in memory.`;
  for (const label of form.querySelectorAll("[data-fact]")) {
    label.hidden = !needs.includes(label.dataset.fact);
    label.querySelector("input").required = !label.hidden;
  }
  document.querySelector("#close-upload").addEventListener("click", () => dialog.close());
  form.addEventListener("change", () => say(""));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const data = new FormData(form);
    if (!form.elements.y.files.length) data.delete("y");
    const bytes = [...form.querySelectorAll("[type=file]")].flatMap((field) => [...field.files]).map((file) => file.size);
    if (bytes.reduce((sum, size) => sum + size, 0) > most)
      return say(`the files are larger than ${most / MIB} MiB together: cut the images`);
    submit.disabled = true;
    submit.textContent = READING;
    try {
      const { name } = await followed(api.upload(data), (progress) => {
        submit.textContent = progress ? tiles(progress) : READING;
      });
      form.reset();
      dialog.close();
      await done(name);
    } catch (refusal) {
      say(refusal.message);
    } finally {
      submit.disabled = false;
      submit.textContent = "Show it";
    }
  });
}
