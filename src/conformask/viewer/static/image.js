// One image: its views, the mask at the sliders' setting, what is promised there, and how it stands to the truth.

import * as api from "./api.js";
import { percent } from "./gallery.js";
import { Latest } from "./latest.js";
import { grey, trust, veiled } from "./mask.js";
import { showPromise } from "./promise.js";
import { Stage } from "./stage.js";
import { VIEWS } from "./state.js";

const TITLES = { output: "Output ŷ", overlay: "Veiled", mask: "Mask", truth: "Truth y", input: "Input x", error: "Error" };
const LEGENDS = {
  overlay: "The output under a veil: the denser, the less trusted.",
  mask: "White = trusted, black = hidden.",
  input: "What the network was given, at the size of its output.",
};
const REST = 120; // milliseconds without a move before the truth is asked
const by = (id) => document.querySelector(id);
const figure = (value) => Number(value.toPrecision(3)).toString();

export class ImagePage {
  #about;
  #sliders;
  #change;
  #stage = new Stage();
  #name = null;
  #told = null; // the server's words on the image
  #pictures = new Map();
  #score = null;
  #output = null; // RGBA
  #trust = null;
  #state = null;
  #timer = null;
  #promise;
  #distance;

  constructor(about, sliders, change, fail) {
    this.#promise = new Latest((name, setting, moved) => this.#ask(name, setting, moved), fail);
    this.#distance = new Latest((name, setting) => this.#measure(name, setting), fail);
    this.#about = about;
    this.#sliders = sliders;
    this.#change = change;
    by("#views").replaceChildren(...VIEWS.map((view, at) => this.#button(view, at)));
    for (const side of ["left", "right"]) {
      by(`#${side}`).replaceChildren(...VIEWS.map((view) => new Option(TITLES[view], view)));
      by(`#${side}`).addEventListener("change", () => change({ swipe: [by("#left").value, by("#right").value] }));
    }
    by("#swipe").addEventListener("click", () => this.toggleSwipe());
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

  zoom(factor) {
    if (factor === 0) this.#stage.fit();
    else this.#stage.zoom(factor);
  }

  // Bring the page to a state; moved = when the slider was, for the time to the redraw.
  async show(state, moved) {
    const setting = { threshold: state.threshold, confidence: state.confidence };
    const before = this.#state;
    this.#state = state;
    this.#sliders.show(setting);
    if (state.name !== this.#name) return this.#open(state.name, setting).catch((error) => this.#close(error));
    if (before.threshold !== state.threshold || before.confidence !== state.confidence)
      this.#promise.want(state.name, setting, moved);
    return this.#draw();
  }

  async #open(name, setting) {
    this.#name = name;
    this.#told = this.#score = this.#trust = null;
    this.#pictures.clear();
    by("#waiting").hidden = false;
    by("#plane").hidden = true;
    const [told, score, output] = await Promise.all([api.image(name), api.score(name), this.#picture(name, "output")]);
    if (name !== this.#name) return;
    this.#told = told;
    this.#score = score;
    this.#output = this.#pixels(output);
    for (const side of ["front", "back"]) Object.assign(by(`#${side}`), { width: told.width, height: told.height });
    this.#stage.hold(told.width, told.height);
    for (const [note, text] of [["#not-covered", told.not_covered], ["#caveat", told.caveat]]) {
      by(note).hidden = text === null;
      by(note).textContent = text ?? "";
    }
    this.#allow();
    await this.#ask(name, setting);
    by("#waiting").hidden = true;
    by("#plane").hidden = false;
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
    if (name !== this.#name || this.#score === null) return;
    this.#trust = trust(this.#score, this.#told.channels, told.opening.level, this.#about.family);
    this.#sliders.show({ threshold: this.#state.threshold, confidence: this.#state.confidence }, told);
    this.#say(told);
    await this.#draw();
    if (moved !== undefined) performance.measure("slider to redraw", { start: moved });
    clearTimeout(this.#timer);
    if (this.#told.truth) this.#timer = setTimeout(() => this.#distance.want(name, setting), REST);
  }

  #say(told) {
    showPromise(by("#image-promise"), told);
    by("#meaning").hidden = !told.holds;
    by("#holds").textContent = told.holds ?? "";
    by("#silent").textContent = told.silent ?? "";
    const known = this.#told.truth ? [["Loss under the mask", "…", ""], ["Without a mask", "…", ""]] : [];
    this.#facts([["Mask size", percent(told.opening.size), ""], ...known, ...this.#bound()]);
  }

  async #measure(name, setting) {
    const told = await api.distance(name, setting);
    const moved = setting.threshold !== this.#state.threshold || setting.confidence !== this.#state.confidence;
    if (name !== this.#name || moved) return;
    const size = by("#facts dd").textContent;
    this.#facts([
      ["Mask size", size, ""],
      ["Loss under the mask", figure(told.distance), told.met ? "✓ within the threshold" : "✗ beyond the threshold"],
      ["Without a mask", figure(told.unmasked), ""],
      ...this.#bound(),
    ]);
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

  async #picture(name, what) {
    if (!this.#pictures.has(what)) this.#pictures.set(what, api.picture(name, what));
    return this.#pictures.get(what);
  }

  #pixels(bitmap) {
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  }

  // Both canvases and everything that says which views they show.
  async #draw() {
    if (this.#trust === null) return;
    const { swipe, view } = this.#state;
    const [left, right] = (swipe ?? [view, null]).map((wanted) => (wanted && !this.#can(wanted) ? "output" : wanted));
    const painted = [this.#paint(by("#front"), left)];
    if (right) painted.push(this.#paint(by("#back"), right));
    by("#back").hidden = !right;
    this.#stage.swipe(Boolean(right));
    by("#swipe").setAttribute("aria-pressed", Boolean(right));
    by("#legend").textContent = this.#legend(right ?? left);
    for (const [side, shown] of [["left", left], ["right", right]]) {
      by(`#${side}`).hidden = !right;
      if (right) by(`#${side}`).value = shown;
    }
    for (const button of by("#views").children)
      button.setAttribute("aria-pressed", button.dataset.view === (right ?? left));
    await Promise.all(painted);
  }

  #legend(view) {
    if (view === "error") return `|y − ŷ|, black = 0 to bright = ${figure(this.#told.error_scale)} and more.`;
    return LEGENDS[view] ?? "";
  }

  // Masks are painted at once, pictures when they have come.
  async #paint(canvas, view) {
    canvas.setAttribute("aria-label", `${TITLES[view]} of ${this.#name}`);
    canvas.dataset.wanted = view;
    const context = canvas.getContext("2d");
    if (view === "mask" || view === "overlay") {
      const drawn = context.createImageData(canvas.width, canvas.height);
      if (view === "mask") grey(drawn.data, this.#trust);
      else veiled(drawn.data, this.#output, this.#trust, this.#about.veil);
      context.putImageData(drawn, 0, 0);
    } else {
      const name = this.#name;
      const bitmap = await this.#picture(name, view);
      if (name !== this.#name || canvas.dataset.wanted !== view) return;
      context.imageSmoothingEnabled = false;
      context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    }
    canvas.dataset.view = view;
  }
}
