// Entry point: the state of the page, which is kept in its address, and the keyboard shortcuts.

import * as api from "./api.js";
import { $, togglePanel } from "./dom.js";
import { Gallery } from "./gallery.js";
import { ImagePage } from "./image_page.js";
import { readPreference, writePreference } from "./preferences.js";
import { Sliders } from "./sliders.js";
import { hashFromState, stateFromHash, VIEWS } from "./state.js";
import { openUploadDialog, setUpUploadDialog } from "./upload.js";

const ADDRESS_DELAY = 150; // milliseconds without a change before these keys are written into the address
const DELAYED_KEYS = ["at", "contrast", "channels"]; // which a drag or the wheel changes many times a second

let state = stateFromHash(location.hash);
let gallery;
let imagePage;
let galleryHash = "#/"; // of the gallery as it was last shown, with its search
let addressTimer;

function showError(error) {
  $("#page-loading").hidden = true;
  $("#page-error").hidden = !error;
  $("#page-error").textContent = error ? error.message : "";
}

// Replaces the entry of the history, so that the back button leads to the page before, not through every move.
const writeAddress = () => history.replaceState(null, "", hashFromState(state));

// Browsers refuse replaceState when it is called too often, hence the delay.
function updateState(changes, inputTime) {
  state = { ...state, ...changes };
  clearTimeout(addressTimer);
  if (Object.keys(changes).some((key) => DELAYED_KEYS.includes(key)))
    addressTimer = setTimeout(writeAddress, ADDRESS_DELAY);
  else writeAddress();
  render(inputTime);
}

// The address of the image some places further in the gallery, with the same settings; null where there is none. The
// crosshair belongs to an image.
function neighbourHash(offset) {
  const names = gallery.names();
  const index = names.indexOf(state.name) + offset;
  return index >= 0 && index < names.length ? hashFromState({ ...state, name: names[index], at: null }) : null;
}

function render(inputTime) {
  showError(null);
  const isImage = state.name !== null;
  $("#gallery").hidden = isImage;
  for (const selector of ["#image", ".image-nav", "#save-png"]) $(selector).hidden = !isImage;
  document.title = isImage ? `${state.name} · conformask` : "conformask";
  if (isImage) {
    renderImageNav();
    imagePage.render(state, inputTime).catch(showError);
  } else {
    galleryHash = hashFromState(state);
    gallery.render(state);
  }
}

function renderImageNav() {
  $(".brand").href = galleryHash;
  $("#image-name").textContent = state.name;
  const names = gallery.names();
  const index = names.indexOf(state.name);
  $("#image-position").textContent = index >= 0 ? `${index + 1} of ${names.length}` : "";
  for (const [selector, offset] of [["#previous", -1], ["#next", 1]]) {
    const hash = neighbourHash(offset);
    if (hash) $(selector).href = hash;
    else $(selector).removeAttribute("href"); // a link without an address is disabled
  }
}

function openNeighbour(offset) {
  const hash = neighbourHash(offset);
  if (hash) location.hash = hash;
}

const SHORTCUTS = {
  "?": () => $("#help-dialog").showModal(),
  "/": () => {
    if (state.name !== null) location.hash = galleryHash;
    setTimeout(() => $("#search").focus()); // once the gallery is shown
  },
  u: openUploadDialog,
};
const IMAGE_SHORTCUTS = {
  ArrowLeft: () => openNeighbour(-1),
  ArrowRight: () => openNeighbour(1),
  Escape: () => (location.hash = galleryHash),
  ArrowUp: () => imagePage.stepSlices(1),
  ArrowDown: () => imagePage.stepSlices(-1),
  PageUp: () => imagePage.stepSlices(10),
  PageDown: () => imagePage.stepSlices(-10),
  v: () => imagePage.enlargeNext(),
  w: () => togglePanel("contrast"),
  h: () => togglePanel("marks"),
  s: () => imagePage.toggleSwipe(),
  c: () => updateState({ threshold: null, confidence: null }),
  "+": () => imagePage.zoomIn(),
  "-": () => imagePage.zoomOut(),
  0: () => imagePage.zoomToFit(),
};
VIEWS.forEach((view, index) => (IMAGE_SHORTCUTS[index + 1] = () => imagePage.selectView(view)));

// Shortcuts of a single character get in the way of speech input, so that they can be turned off (WCAG 2.1.4).
function handleKey(event) {
  if (!$("#shortcuts-enabled").checked || $("dialog[open]")) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest("input, select, textarea");
  if (field && event.key === "Escape") return field.blur();
  // A field needs all keys, but for a slider, which needs the arrows only.
  if (field && !(field.type === "range" && !event.key.startsWith("Arrow"))) return;
  const action = SHORTCUTS[event.key] ?? (state.name !== null ? IMAGE_SHORTCUTS[event.key] : undefined);
  if (!action) return;
  event.preventDefault();
  action();
}

async function start() {
  const session = await api.fetchSession();
  const sliders = new Sliders(session, updateState);
  gallery = new Gallery(session, updateState, () => state.name !== null && renderImageNav());
  imagePage = new ImagePage(session, sliders, updateState, showError);
  $("#fingerprint").textContent = session.fingerprint;
  setUpUploadDialog(session.upload, async (name) => {
    await gallery.refresh();
    location.hash = hashFromState({ name });
  });
  $("#open-upload").addEventListener("click", openUploadDialog);
  $("#open-help").addEventListener("click", SHORTCUTS["?"]);
  $("#shortcuts-enabled").checked = readPreference("keys", true);
  $("#shortcuts-enabled").addEventListener("change", () =>
    writePreference("keys", $("#shortcuts-enabled").checked));
  document.addEventListener("keydown", handleKey);
  window.addEventListener("hashchange", () => {
    clearTimeout(addressTimer); // else it would write the state that is left
    const { name } = state;
    state = stateFromHash(location.hash);
    render();
    if (state.name !== null && state.name !== name) window.scrollTo(0, 0); // else its picture is out of sight on phones
  });
  await gallery.refresh();
  state = stateFromHash(location.hash); // a link may have been followed meanwhile
  galleryHash = hashFromState({ ...state, name: null });
  gallery.render(state); // also behind an image: the order of its neighbours
  render();
}

start().catch(showError);
