// One view of an image: a plane with its mask, crosshair, letters and scale bar.

import { drawHidden, hiding } from "./hidden.js";
import { grey, trust } from "./mask.js";
import { drawScaleBar } from "./scale.js";
import { Stage } from "./stage.js";
import { scaleBar } from "./units.js";
import { cellOf, pixelOf, pointOf, sidesOf } from "./views.js";

export const TITLES = { output: "Output ŷ", overlay: "Overlay", mask: "Mask", truth: "Truth y", input: "Input x", error: "Error" };
const REST = 120; // milliseconds without a move before a closer look is asked for
const CLOSEST = 2 ** 25; // pixels that the server reads for it
const LONGEST_BAR = 140; // screen pixels

export class Pane {
  #root;
  #stage;
  #about;
  #acts;
  #told = null;
  #planes;
  #view;
  #cell = [1, 1];
  #wanted = null;
  #closer = null; // the part of a reduced plane that is shown at a smaller step
  #timer;
  #trusted = {}; // what was last computed, for both sides of a swipe
  #hidden = []; // parts of the plane as drawHidden takes them

  // acts: go(point), place(axis, at), hover(point or null), contrast(right, down), enlarge(view), placed().
  constructor(root, about, acts) {
    this.#root = root;
    this.#about = about;
    this.#acts = acts;
    this.#stage = new Stage(root.querySelector(".stage"), {
      placed: () => this.#placed(),
      click: (point) => acts.go(this.#pixel(point)),
      hover: (point) => acts.hover(point && this.#pixel(point)),
      turn: null,
      drag: acts.contrast,
    });
    this.#by(".slice input").addEventListener("input", (event) => acts.place(this.#view.axis, Number(event.target.value)));
    this.#by(".name").addEventListener("click", () => acts.enlarge(this.#view.name));
  }

  #by(selector) {
    return this.#root.querySelector(selector);
  }

  get view() {
    return this.#view;
  }

  // The pixel under the mouse; null elsewhere.
  get pointed() {
    const point = this.#stage.pointed;
    return point && this.#pixel(point);
  }

  get scale() {
    return this.#stage.scale;
  }

  zoom(factor) {
    if (factor === 0) this.#stage.fit();
    else this.#stage.zoom(factor);
  }

  // Show another image, or another view of it; `turn` moves along the axis, null where there is one plane.
  hold(told, planes, view, { main, turn }) {
    this.#told = told;
    this.#planes = planes;
    this.#view = view;
    this.#closer = null;
    this.#hidden = [];
    this.#cell = cellOf(view, told.steps);
    this.#stage.acts.turn = turn && ((steps) => turn(view.axis, steps));
    const [rows, columns] = sidesOf(view, told.size);
    const side = told.size[view.axis];
    Object.assign(this.#by(".slice input"), { max: side - 1, ariaLabel: `${view.name} slice` });
    this.#by(".slice .tick").style.setProperty("--at", side > 1 ? told.most_hidden[view.axis] / (side - 1) : 0);
    this.#by(".slice").hidden = !turn;
    Object.assign(this.#by(".name"), { textContent: view.name, hidden: !turn, disabled: main });
    ["left", "right", "top", "bottom"].forEach((side, at) => {
      this.#by(`.letter.${side}`).textContent = view.letters[at] ?? "";
    });
    this.#stage.hold(columns * this.#cell[0], rows * this.#cell[1]);
  }

  // wanted: { point, shown: [left, right or null], tones, level, marks }.
  async draw(wanted) {
    this.#wanted = wanted;
    const whole = { ...this.#plane(), step: this.#view.step };
    const closer = this.#closer && { ...this.#plane(), ...this.#closer };
    const sharper = closer && this.#layer(closer).catch(() => null); // the reduced plane is shown without it
    const drawn = await Promise.all([this.#layer(whole), sharper]);
    if (wanted !== this.#wanted) return;
    this.#paint("", whole, drawn[0]);
    this.#paint(".detail", drawn[1] && closer, drawn[1]);
    this.#hidden = drawn.flatMap((layer, at) => (layer?.hidden ? { canvas: layer.hidden, ...this.#box([whole, closer][at]) } : []));
    this.#by(".side.under").hidden = !wanted.shown[1];
    this.#stage.swipe(Boolean(wanted.shown[1]));
    this.#say();
    this.#placed();
  }

  // Fetch what the next planes will need.
  ahead() {
    for (const step of [1, -1]) {
      const at = this.#wanted.point[this.#view.axis] + step;
      if (at >= 0 && at < this.#told.size[this.#view.axis])
        this.#layer({ axis: this.#view.axis, at, step: this.#view.step }).catch(() => {});
    }
  }

  #plane() {
    return { axis: this.#view.axis, at: this.#wanted.point[this.#view.axis] };
  }

  // What each side shows, what hides in an overlay, and what lies outside the region.
  async #layer(plane) {
    const { shown, level, marks } = this.#wanted;
    const [outside, score, ...sides] = await Promise.all([
      this.#told.region && this.#planes.outside(plane),
      shown.includes("overlay") && this.#planes.score(plane),
      ...shown.map((what) => what && this.#drawn(what, plane)),
    ]);
    return { outside, hidden: score && hiding(this.#trust(score, level), ...this.#sides(plane), marks.mode, outside), sides };
  }

  // A picture, or pixels where the mask is drawn.
  async #drawn(what, plane) {
    const { tones, level } = this.#wanted;
    if (what !== "mask") return this.#planes.picture(what === "overlay" ? "output" : what, plane, tones);
    const score = await this.#planes.score(plane);
    const drawn = new ImageData(...this.#sides(plane));
    grey(drawn.data, this.#trust(score, level));
    return drawn;
  }

  #trust(score, level) {
    if (this.#trusted.score !== score || this.#trusted.level !== level)
      this.#trusted = { score, level, bytes: trust(score, this.#told.channels, level, this.#about.family) };
    return this.#trusted.bytes;
  }

  // Width and height of what the server sends of a plane, or a part of it.
  #sides({ top = 0, left = 0, bottom, right, step }) {
    const [rows, columns] = sidesOf(this.#view, this.#told.size);
    return [(right ?? columns) - left, (bottom ?? rows) - top].map((side) => Math.ceil(side / step));
  }

  #paint(kind, plane, drawn) {
    ["front", "back"].forEach((side, at) => {
      const canvas = this.#by(`.${side}${kind}`);
      const picture = plane && drawn.sides[at];
      canvas.hidden = !picture;
      if (canvas.hidden) return;
      const [width, height] = this.#sides(plane);
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      for (const [name, value] of Object.entries(this.#box(plane))) canvas.style[name] = `${value}px`;
      const context = canvas.getContext("2d");
      if (picture instanceof ImageData) context.putImageData(picture, 0, 0);
      else context.drawImage(picture, 0, 0);
      if (drawn.outside) veiled(context, drawn.outside, this.#about.veil);
      Object.assign(canvas.dataset, { view: this.#wanted.shown[at], at: plane.at, axis: plane.axis });
    });
  }

  // Where a plane, or a part of it, lies on the stage's plane.
  #box(plane) {
    const [wide, high] = this.#cell;
    const [width, height] = this.#sides(plane).map((side) => side * plane.step);
    return { left: (plane.left ?? 0) * wide, top: (plane.top ?? 0) * high, width: width * wide, height: height * high };
  }

  // Mark what is hidden on the stage.
  #mark() {
    const canvas = this.#by(".marks");
    const density = devicePixelRatio;
    Object.assign(canvas, { width: density * canvas.clientWidth, height: density * canvas.clientHeight });
    if (canvas.width * canvas.height > 0) this.#markOn(canvas.getContext("2d"), { ...this.#stage.place, density });
  }

  // On the sides of a swipe that show it.
  #markOn(context, place) {
    if (this.#hidden.length === 0) return;
    this.#wanted.shown.forEach((what, at) => {
      if (what !== "overlay") return;
      context.save();
      this.#clip(context, place, at);
      drawHidden(context, this.#hidden, this.#wanted.marks, place);
      context.restore();
    });
  }

  // To the left or right of a swipe's border, where there is one.
  #clip(context, { x, density }, at) {
    const { width, height } = context.canvas;
    const border = this.#wanted.shown[1] ? density * (this.#stage.border - this.#stage.place.x + x) : width;
    context.beginPath();
    context.rect(...(at === 0 ? [0, 0, border, height] : [border, 0, width - border, height]));
    context.clip();
  }

  // What is in sight of the plane, with its marks and scale bar, this many times as dense as the screen.
  picture(density) {
    const { x, y, scale } = this.#stage.place;
    const [left, top, right, bottom] = this.#stage.sight;
    const place = { x: -left * scale, y: -top * scale, scale, density };
    const sides = [right - left, bottom - top].map((side) => Math.max(1, Math.round(side * scale * density)));
    const context = new OffscreenCanvas(...sides).getContext("2d");
    context.imageSmoothingEnabled = scale <= 1;
    ["front", "back"].forEach((side, at) => {
      context.save();
      this.#clip(context, place, at);
      for (const canvas of this.#root.querySelectorAll(`canvas.${side}:not([hidden])`)) {
        const { left, top, width, height } = canvas.style;
        const [a, b, c, d] = [left, top, width, height].map(parseFloat);
        context.drawImage(canvas, ...[place.x + scale * a, place.y + scale * b, scale * c, scale * d].map((value) => density * value));
      }
      context.restore();
    });
    this.#markOn(context, place);
    const bar = this.#bar();
    if (bar) drawScaleBar(context, bar, density);
    return context.canvas;
  }

  // What it shows, in words: a text for each side of a swipe.
  get titles() {
    return ["front", "back"].slice(0, this.#wanted.shown[1] ? 2 : 1).map((side) => this.#by(`.${side}`).ariaLabel);
  }

  #say() {
    const { axis, name } = this.#view;
    const [at, side] = [this.#wanted.point[axis], this.#told.size[axis]];
    const slice = `${at + 1} of ${side}`;
    Object.assign(this.#by(".slice input"), { value: at, ariaValueText: slice });
    this.#by(".slice output").textContent = slice;
    const where = side > 1 ? `, ${name} slice ${slice}` : "";
    ["front", "back"].forEach((kind, index) => {
      const what = this.#wanted.shown[index];
      if (what) this.#by(`.${kind}`).setAttribute("aria-label", `${TITLES[what]} of ${this.#told.name}${where}`);
    });
  }

  // What lies over the plane at a zoom: crosshair and scale bar; and soon the pixels that can be seen now.
  #placed() {
    if (!this.#wanted) return;
    const [row, column] = pixelOf(this.#view, this.#told.size, this.#wanted.point);
    const [x, y] = this.#stage.onStage([(column + 0.5) * this.#cell[0], (row + 0.5) * this.#cell[1]]);
    for (const line of this.#root.querySelectorAll(".cross")) line.hidden = !this.#stage.acts.turn;
    this.#by(".cross.down").style.left = `${x}px`;
    this.#by(".cross.across").style.top = `${y}px`;
    const bar = this.#bar();
    this.#by(".scale").hidden = bar === null;
    if (bar) {
      this.#by(".scale i").style.width = `${bar.width}px`;
      this.#by(".scale span").textContent = bar.text;
    }
    this.#mark();
    this.#acts.placed();
    if (this.#view.step === 1) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), REST);
  }

  // The scale bar for what is in sight; null where the size of a pixel is unknown.
  #bar() {
    const { steps, unit } = this.#told;
    if (unit === null) return null;
    const { scale, sight: [left, , right] } = this.#stage;
    const room = Math.min(LONGEST_BAR, (scale * (right - left)) / 3);
    return scaleBar(steps[this.#view.right.axis], unit, scale * this.#cell[0], room);
  }

  // Ask for the part in sight, where the reduced plane shows less than the screen could.
  #look() {
    const part = this.#inSight();
    if (JSON.stringify(part) === JSON.stringify(this.#closer)) return;
    this.#closer = part;
    this.draw(this.#wanted).catch(() => {});
  }

  #inSight() {
    const step = Math.max(1, Math.floor(1 / this.#stage.scale));
    const [rows, columns] = sidesOf(this.#view, this.#told.size);
    const [left, top, right, bottom] = this.#stage.sight.map((at, side) => at / this.#cell[side % 2] / step);
    const part = {
      top: step * Math.floor(top),
      bottom: Math.min(rows, step * Math.ceil(bottom)),
      left: step * Math.floor(left),
      right: Math.min(columns, step * Math.ceil(right)),
      step,
    };
    const pixels = (part.bottom - part.top) * (part.right - part.left);
    return step < this.#view.step && pixels > 0 && pixels <= CLOSEST ? part : null;
  }

  // The pixel under a point of the plane.
  #pixel([x, y]) {
    const place = [Math.floor(y / this.#cell[1]), Math.floor(x / this.#cell[0])];
    return pointOf(this.#view, this.#told.size, this.#wanted.point, place);
  }
}

function veiled(context, outside, opacity) {
  context.globalAlpha = opacity;
  context.drawImage(outside, 0, 0);
  context.globalAlpha = 1;
}
