// Start: what the server is about, the address, and the keys.

import * as api from "./api.js";
import { Gallery } from "./gallery.js";
import { ImagePage } from "./image.js";
import { prefer, preference } from "./preferences.js";
import { Sliders } from "./sliders.js";
import { read, VIEWS, write } from "./state.js";
import { openUpload, prepareUpload } from "./upload.js";

const by = (id) => document.querySelector(id);
let state = read(location.hash);
let gallery, page;
let galleryAddress = "#/";
let saving;
const OFTEN = 150; // milliseconds between moves whose address is written
const MOVED = ["at", "contrast", "channels"];

const fail = (error) => {
  by("#failure").hidden = !error;
  by("#failure").textContent = error ? error.message : "";
};

// Change the state without a new entry in the history; browsers allow few entries a second.
function change(changes, moved) {
  state = { ...state, ...changes };
  clearTimeout(saving);
  if (Object.keys(changes).some((key) => MOVED.includes(key))) saving = setTimeout(save, OFTEN);
  else save();
  show(moved);
}

const save = () => history.replaceState(null, "", write(state));

// The place in a volume is that of the image.
function walk(step) {
  const names = gallery.names();
  const at = names.indexOf(state.name);
  const near = at + step >= 0 && at + step < names.length;
  return near ? write({ ...state, name: names[at + step], at: null }) : null;
}

function show(moved) {
  fail(null);
  const single = state.name !== null;
  by("#gallery").hidden = single;
  by("#image").hidden = !single;
  by(".walk").hidden = !single;
  by("#save").hidden = !single;
  document.title = single ? `${state.name} · conformask` : "conformask";
  if (!single) {
    galleryAddress = write(state);
    gallery.show(state);
    return;
  }
  by(".brand").href = galleryAddress;
  by("#name").textContent = state.name;
  const names = gallery.names();
  by("#place").textContent = names.includes(state.name) ? `${names.indexOf(state.name) + 1} of ${names.length}` : "";
  for (const [id, step] of [["#previous", -1], ["#next", 1]]) {
    const to = walk(step);
    if (to) by(id).href = to;
    else by(id).removeAttribute("href");
  }
  page.show(state, moved).catch(fail);
}

const opened = () => document.querySelector("dialog[open]");
const KEYS = {
  "?": () => by("#help-dialog").showModal(),
  "/": () => {
    if (state.name !== null) location.hash = galleryAddress;
    setTimeout(() => by("#search").focus());
  },
  u: openUpload,
};
const IMAGE_KEYS = {
  ArrowLeft: () => walk(-1) && (location.hash = walk(-1)),
  ArrowRight: () => walk(1) && (location.hash = walk(1)),
  Escape: () => (location.hash = galleryAddress),
  ArrowUp: () => page.turn(1),
  ArrowDown: () => page.turn(-1),
  PageUp: () => page.turn(10),
  PageDown: () => page.turn(-10),
  v: () => page.turnRound(),
  w: () => page.toggleContrast(),
  h: () => page.toggleMarks(),
  s: () => page.toggleSwipe(),
  c: () => change({ threshold: null, confidence: null }),
  "+": () => page.zoom(1.25),
  "-": () => page.zoom(0.8),
  0: () => page.zoom(0),
};
VIEWS.forEach((view, at) => (IMAGE_KEYS[at + 1] = () => page.look(view)));

function key(event) {
  if (!by("#keys").checked || opened() || event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest("input, select, textarea");
  if (field && event.key === "Escape") return field.blur();
  if (field && !(field.type === "range" && !event.key.startsWith("Arrow"))) return;
  const act = KEYS[event.key] ?? (state.name !== null ? IMAGE_KEYS[event.key] : undefined);
  if (!act) return;
  event.preventDefault();
  act();
}

async function start() {
  const about = await api.session();
  const sliders = new Sliders(about, change);
  gallery = new Gallery(change);
  page = new ImagePage(about, sliders, change, fail);
  by("#fingerprint").textContent = about.fingerprint;
  prepareUpload(about.upload, async (name) => {
    await gallery.refresh();
    location.hash = write({ name });
  });
  by("#open-upload").addEventListener("click", openUpload);
  by("#open-help").addEventListener("click", KEYS["?"]);
  by("#keys").checked = preference("keys", true);
  by("#keys").addEventListener("change", () => prefer("keys", by("#keys").checked));
  document.addEventListener("keydown", key);
  window.addEventListener("hashchange", () => {
    clearTimeout(saving);
    state = read(location.hash);
    show();
  });
  await gallery.refresh();
  show();
}

start().catch(fail);
