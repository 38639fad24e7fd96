// One image: its views, the mask at the sliders' setting, what is promised there, and how it stands to the truth.

import * as api from "./api.js";
import { captioned, DENSITY, save } from "./caption.js";
import { Channels } from "./channels.js";
import { boundsOf, Contrast } from "./contrast.js";
import { BEYOND, percent } from "./gallery.js";
import { Latest } from "./latest.js";
import { Marks } from "./marks.js";
import { Pane, TITLES } from "./pane.js";
import { Planes } from "./planes.js";
import { followed, tiles } from "./progress.js";
import { showPromise } from "./promise.js";
import { Readout } from "./readout.js";
import { VIEWS } from "./state.js";
import { sidesOf } from "./views.js";

const LEGENDS = {
  mask: "White = trusted, black = hidden.",
  input: "What the network was given, at the size of its output.",
};
const REGION = "Grey: outside the region that the promise is about.";
const REST = 120; // milliseconds without a move before the truth is asked
const by = (id) => document.querySelector(id);
const figure = (value) => Number(value.toPrecision(3)).toString();

export class ImagePage {
  #sliders;
  #change;
  #panes;
  #contrast;
  #channels;
  #marks;
  #readout;
  #name = null;
  #told = null; // the server's words on the image
  #planes = null;
  #level = null; // of the mask
  #promised = null; // at the setting that is drawn
  #state = null;
  #timer;
  #promise;
  #distance;
  #moves;

  constructor(about, sliders, change, fail) {
    this.#promise = new Latest((name, setting, moved) => this.#ask(name, setting, moved), fail);
    this.#distance = new Latest((name, setting) => this.#measure(name, setting), fail);
    this.#moves = new Latest(() => this.#draw(), fail);
    this.#sliders = sliders;
    this.#change = change;
    this.#contrast = new Contrast(change);
    this.#channels = new Channels(change);
    this.#marks = new Marks(about.hatch, () => this.#moves.want());
    this.#readout = new Readout(by("#readout"), about.family);
    this.#panes = this.#made(about);
    by("#views").replaceChildren(...VIEWS.map((view, at) => this.#button(view, at)));
    for (const side of ["left", "right"]) {
      by(`#${side}`).replaceChildren(...VIEWS.map((view) => new Option(TITLES[view], view)));
      by(`#${side}`).addEventListener("change", () => change({ swipe: [by("#left").value, by("#right").value] }));
    }
    by("#swipe").addEventListener("click", () => this.toggleSwipe());
    by("#save").addEventListener("click", () => this.#save().catch(fail));
    for (const [id, factor] of [["#in", 1.25], ["#out", 0.8], ["#fit", 0]])
      by(id).addEventListener("click", () => this.zoom(factor));
  }

  // The large pane, and two like it for the other views of a volume.
  #made(about) {
    const roots = [by(".pane"), by(".pane").cloneNode(true), by(".pane").cloneNode(true)];
    for (const root of roots.slice(1)) {
      for (const select of root.querySelectorAll("select, #waiting")) select.remove();
      for (const element of root.querySelectorAll("[id]")) element.removeAttribute("id");
    }
    by("#panes").replaceChildren(...roots);
    const acts = {
      go: (point) => this.#go(point),
      place: (axis, at) => this.#go(this.#point.map((old, other) => (other === axis ? at : old))),
      hover: (point) => this.#point && this.#readout.show(point ?? this.#resting),
      contrast: (right, down) => this.#contrast.drag(right, down),
      enlarge: (plane) => this.#change({ plane }),
      placed: () => (by("#fit").textContent = `${Math.round(100 * this.#panes[0].scale)} %`),
    };
    return roots.map((root) => new Pane(root, about, acts));
  }

  #button(view, at) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: TITLES[view], title: `${TITLES[view]} (${at + 1})` });
    button.dataset.view = view;
    button.addEventListener("click", () => this.look(view));
    return button;
  }

  // A key or a button chose a view; in a swipe it becomes the right one.
  look(view) {
    if (!this.#can(view)) return;
    this.#change(this.#state.swipe ? { swipe: [this.#state.swipe[0], view] } : { view });
  }

  toggleSwipe() {
    const right = this.#state.view === "output" ? "overlay" : this.#state.view;
    this.#change({ swipe: this.#state.swipe ? null : ["output", right] });
  }

  toggleContrast() {
    this.#contrast.toggle();
  }

  toggleMarks() {
    this.#marks.toggle();
  }

  zoom(factor) {
    for (const pane of factor === 0 ? this.#panes : this.#panes.slice(0, 1)) pane.zoom(factor);
  }

  // Move along the axis of the large view of a volume.
  turn(steps) {
    if (this.#isVolume) this.#turn(this.#views[0].axis, steps);
  }

  // Enlarge the next of the views of a volume.
  turnRound() {
    if (this.#isVolume) this.#change({ plane: this.#views[1].name });
  }

  #turn(axis, steps) {
    const last = this.#told.size[axis] - 1;
    this.#go(this.#point.map((at, other) => (other === axis ? Math.min(Math.max(at + steps, 0), last) : at)));
  }

  #go(point) {
    if (this.#isVolume) this.#change({ at: point });
    else this.#readout.show(point);
  }

  get #isVolume() {
    return this.#told?.views.length > 1;
  }

  // The crosshair: z, y, x. It starts in the most hidden slice along the first axis.
  get #point() {
    if (!this.#told) return null;
    const { size, most_hidden: hidden } = this.#told;
    const at = this.#isVolume ? this.#state.at : null;
    if (at && at.every((place, axis) => Number.isInteger(place) && place >= 0 && place < size[axis])) return at;
    return [hidden[0], Math.floor(size[1] / 2), Math.floor(size[2] / 2)];
  }

  // Whose values are shown while the pointer is elsewhere.
  get #resting() {
    return this.#isVolume ? this.#point : null;
  }

  // The large view first, then the others in their order from there.
  get #views() {
    const { views } = this.#told;
    const first = Math.max(0, views.findIndex(({ name }) => name === this.#state.plane));
    return [...views.slice(first), ...views.slice(0, first)];
  }

  // Bring the page to a state; moved = when the slider was, for the time to the redraw.
  async show(state, moved) {
    const setting = { threshold: state.threshold, confidence: state.confidence };
    const before = this.#state;
    this.#state = state;
    this.#sliders.show(setting);
    if (state.name !== this.#name) return this.#open(state.name, setting).catch((error) => this.#close(error));
    if (this.#told === null) return undefined;
    if (before.plane !== state.plane) this.#arrange();
    this.#contrast.show(state.contrast);
    this.#channels.show(state.channels);
    if (before.threshold !== state.threshold || before.confidence !== state.confidence)
      return this.#promise.want(state.name, setting, moved);
    return this.#moves.want();
  }

  async #open(name, setting) {
    this.#name = name;
    this.#told = this.#level = this.#promised = null;
    by("#waiting").hidden = false;
    by("#panes").dataset.shown = "nothing";
    by("#plane").hidden = true;
    this.#follow(name, null);
    const told = await followed(api.image(name), (progress) => this.#follow(name, progress));
    if (name !== this.#name) return;
    this.#told = told;
    this.#planes = new Planes(name, Math.max(...told.views.map(pixelsOf(told.size))));
    this.#contrast.hold(told);
    this.#contrast.show(this.#state.contrast);
    this.#channels.hold(told);
    this.#channels.show(this.#state.channels);
    this.#readout.hold(told);
    for (const [note, text] of [["#not-covered", told.not_covered], ["#caveat", told.caveat]]) {
      by(note).hidden = text === null;
      by(note).textContent = text ?? "";
    }
    this.#allow();
    this.#arrange();
    await this.#ask(name, setting);
    if (name !== this.#name) return;
    by("#waiting").hidden = true;
    by("#plane").hidden = false;
    if (document.activeElement === document.body) by("#front").focus({ preventScroll: true });
  }

  // How far this image is scored, or the one before it.
  #follow(name, progress) {
    if (name !== this.#name) return;
    by("#tiles").hidden = progress === null;
    if (progress === null) return;
    Object.assign(by("#tiles progress"), { max: progress.total, value: progress.done });
    by("#tiles span").textContent = progress.name === name ? tiles(progress) : `First ${progress.name}: ${tiles(progress)}`;
  }

  // Which pane has which view.
  #arrange() {
    by("#panes").dataset.shown = this.#isVolume ? "volume" : "plane";
    const turn = this.#isVolume ? (axis, steps) => this.#turn(axis, steps) : null;
    this.#views.forEach((view, at) => this.#panes[at].hold(this.#told, this.#planes, view, { main: at === 0, turn }));
  }

  #close(error) {
    this.#name = null;
    by("#waiting").hidden = true;
    for (const part of ["#image-promise", "#facts"]) by(part).replaceChildren();
    throw error;
  }

  #allow() {
    for (const view of VIEWS) {
      by(`#views [data-view=${view}]`).disabled = !this.#can(view);
      for (const side of ["left", "right"]) by(`#${side} [value=${view}]`).disabled = !this.#can(view);
    }
  }

  #can(view) {
    return this.#told !== null && (this.#told.truth || !["truth", "error"].includes(view));
  }

  async #ask(name, setting, moved) {
    const told = await api.promise(name, setting);
    if (name !== this.#name || this.#told === null) return;
    this.#level = told.opening.level;
    this.#promised = told;
    this.#sliders.show({ threshold: this.#state.threshold, confidence: this.#state.confidence }, told);
    this.#say(told);
    await this.#draw();
    if (moved !== undefined) performance.measure("slider to redraw", { start: moved });
    clearTimeout(this.#timer);
    if (this.#told?.measurable) this.#timer = setTimeout(() => this.#distance.want(name, setting), REST);
  }

  // The large picture as it is seen, and all that is said about it.
  async #save() {
    if (this.#promised === null) return;
    const { titles } = this.#panes[0];
    const { status: standing, headline, promise } = this.#promised;
    const facts = [...by("#facts").children].map((row) => [...row.children].map((part) => part.textContent).join(" ").trim());
    const notes = [this.#told.not_covered, this.#told.caveat];
    const said = [
      titles.length > 1 ? `Left: ${titles[0]}. Right: ${titles[1]}.` : `${titles[0]}.`,
      by("#legend").textContent,
      [standing.title, headline ?? standing.text].join(": "),
      this.#promised.measured === standing.text ? null : this.#promised.measured,
      promise,
      facts.join(" · "),
      ...notes,
    ];
    const picture = captioned(this.#panes[0].picture(DENSITY), said.filter(Boolean));
    await save(picture, `${this.#name}.png`);
  }

  #say(told) {
    showPromise(by("#image-promise"), told, told.measured);
    by("#meaning").hidden = !told.holds;
    by("#holds").textContent = told.holds ?? "";
    by("#silent").textContent = told.silent ?? "";
    const known = this.#told.measurable ? [["Loss under the mask", "…", ""], ["Without a mask", "…", ""]] : [];
    this.#facts([[this.#sizeLabel, percent(told.opening.size), ""], ...known, ...this.#bound()]);
  }

  async #measure(name, setting) {
    const told = await api.distance(name, setting);
    const moved = setting.threshold !== this.#state.threshold || setting.confidence !== this.#state.confidence;
    if (name !== this.#name || moved) return;
    const size = by("#facts dd").textContent;
    this.#facts([
      [this.#sizeLabel, size, ""],
      ["Loss under the mask", figure(told.distance), told.met ? "✓ within the threshold" : BEYOND],
      ["Without a mask", figure(told.unmasked), ""],
      ...this.#bound(),
    ]);
  }

  get #sizeLabel() {
    return this.#told.region ? "Mask size in the region" : "Mask size";
  }

  // What is promised of the whole output, known without its truth.
  #bound() {
    return this.#told.bound === null ? [] : [["Promised without a mask", this.#told.bound, ""]];
  }

  #facts(rows) {
    const parts = rows.map(([label, value, note]) => {
      const row = document.createElement("div");
      row.innerHTML = "<dt></dt><dd></dd><dd class='met'></dd>";
      row.children[0].textContent = label;
      row.children[1].textContent = value;
      row.children[2].textContent = note;
      row.children[2].classList.add(note.startsWith("✓") ? "yes" : "no");
      return row;
    });
    by("#facts").replaceChildren(...parts);
  }

  // Every pane, and everything that says what they show.
  async #draw() {
    if (this.#level === null) return;
    const { swipe, view, contrast } = this.#state;
    const shown = (swipe ?? [view, null]).map((wanted) => (wanted && !this.#can(wanted) ? "output" : wanted));
    const [left, right] = shown;
    by("#swipe").setAttribute("aria-pressed", Boolean(right));
    by("#legend").textContent = [
      this.#legend(right ?? left), this.#legendOfChannels(shown), this.#told.region ? REGION : "",
    ].filter(Boolean).join(" ");
    for (const [side, view] of [["left", left], ["right", right]]) {
      by(`#${side}`).hidden = !right;
      if (right) by(`#${side}`).value = view;
    }
    for (const button of by("#views").children)
      button.setAttribute("aria-pressed", button.dataset.view === (right ?? left));
    this.#readout.mask(this.#level);
    const tones = { ...boundsOf(contrast, this.#told.range), ...this.#channels.asked };
    const panes = this.#panes.slice(0, this.#told.views.length);
    const wanted = { point: this.#point, shown, tones, level: this.#level, marks: this.#marks.style };
    const drawn = Promise.all(panes.map((pane) => pane.draw({ ...wanted })));
    const pointed = panes.map((pane) => pane.pointed).find(Boolean);
    if (pointed || this.#isVolume) this.#readout.show(pointed ?? this.#point);
    await drawn;
    if (this.#isVolume) panes[0].ahead();
  }

  #legendOfChannels(shown) {
    return shown.some((view) => view && !["mask", "error"].includes(view)) ? this.#channels.legend : "";
  }

  #legend(view) {
    if (view === "overlay") return this.#marks.legend;
    if (view !== "error") return LEGENDS[view] ?? "";
    const [low, high] = this.#told.range;
    return `|y − ŷ|, black = 0 to bright = ${figure(this.#told.error_scale * (high - low))} and more.`;
  }
}

const pixelsOf = (size) => (view) => {
  const [rows, columns] = sidesOf(view, size);
  return (rows * columns) / view.step ** 2;
};
