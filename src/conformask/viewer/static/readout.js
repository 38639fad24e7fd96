// What the images have at a pixel, in stated units.

import * as api from "./api.js";
import { Latest } from "./latest.js";
import { openness } from "./mask.js";
import { stated } from "./units.js";

const ROWS = [["input", "Input"], ["output", "Output"], ["truth", "Truth"]];

export class Readout {
  #element;
  #ask;
  #family;
  #image = null; // name, size, ranges
  #point = null;
  #values = null;
  #level = null;

  constructor(element, family) {
    this.#element = element;
    this.#family = family;
    this.#ask = new Latest(async (image, point) => {
      const values = await api.values(image.name, point);
      if (image !== this.#image || point !== this.#point) return;
      this.#values = values;
      this.#say();
    }, () => {});
  }

  // Another image; nothing is shown of it before a pixel is chosen.
  hold(told) {
    this.#image = told;
    this.show(null);
  }

  mask(level) {
    this.#level = level;
    this.#say();
  }

  show(point) {
    if (point && this.#point && point.every((at, axis) => at === this.#point[axis])) return;
    this.#point = point;
    if (point) this.#ask.want(this.#image, point);
    else this.#values = null;
    this.#say();
  }

  #say() {
    const parts = this.#point && this.#values ? this.#parts() : [];
    this.#element.replaceChildren(
      ...parts.map(([label, text]) => {
        const part = document.createElement("span");
        part.append(`${label} `, Object.assign(document.createElement("b"), { textContent: text }));
        return part;
      }),
    );
  }

  #parts() {
    const { range, x_range: rangeOfX, size } = this.#image;
    const [z, y, x] = this.#point;
    const place = [["x", x], ["y", y], ...(size[0] > 1 ? [["z", z]] : [])];
    const said = (what) => this.#values[what].map((value) => stated(value, what === "input" ? rangeOfX : range)).join(" ");
    const parts = ROWS.filter(([what]) => this.#values[what]).map(([what, label]) => [label, said(what)]);
    const [low, high] = range;
    if (this.#values.error) parts.push(["Error", stated(this.#values.error[0], [0, high - low])]);
    if (this.#level) {
      const mask = openness(this.#values.score, this.#level, this.#family).toFixed(2);
      parts.push(["Mask", this.#values.region?.[0] === 0 ? "outside the region" : mask]);
    }
    return [...place, ...parts];
  }
}
