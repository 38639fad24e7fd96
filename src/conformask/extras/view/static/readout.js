// Readout of the values at a voxel, in the units of the files.

import * as api from "./api.js";
import { createElement } from "./dom.js";
import { roundToDigits, valueInRange } from "./format.js";
import { LatestTask } from "./latest_task.js";
import { maskValue } from "./mask.js";

const PICTURES = ["truth", "input"]; // in the order of the views, after output and mask

/** The values of the pictures, of the error, the mask and the map at the voxel under the pointer. */
export class Readout {
  #element;
  #family;
  #requests;
  #image = null;
  #voxel = null; // [z, y, x]
  #values = null; // as the server sent them, by picture: an array over channels
  #maskLevel = null;

  constructor(element, family) {
    this.#element = element;
    this.#family = family;
    this.#requests = new LatestTask((image, voxel) => this.#fetch(image, voxel), () => {});
  }

  /** Take another image; its readout is empty until a voxel is chosen. */
  setImage(image) {
    this.#image = image;
    this.setVoxel(null);
  }

  /** Take the level of the mask at the setting that is drawn. */
  setMaskLevel(maskLevel) {
    this.#maskLevel = maskLevel;
    this.#render();
  }

  /** Show the values at a voxel [z, y, x], or nothing for null. */
  setVoxel(voxel) {
    const isSame = voxel && this.#voxel && voxel.every((index, axis) => index === this.#voxel[axis]);
    if (isSame) return;
    this.#voxel = voxel;
    if (voxel) this.#requests.request(this.#image, voxel); // the last values are shown until the new ones come
    else this.#values = null;
    this.#render();
  }

  async #fetch(image, voxel) {
    const values = await api.fetchValues(image.name, voxel);
    if (image !== this.#image || voxel !== this.#voxel) return; // the pointer has moved on
    this.#values = values;
    this.#render();
  }

  #render() {
    const rows = this.#voxel && this.#values ? this.#rows() : [];
    this.#element.replaceChildren(
      ...rows.map(([label, text]) => {
        const row = createElement("span");
        row.append(`${label} `, createElement("b", { textContent: text }));
        return row;
      }),
    );
  }

  // Pairs of a label and a text.
  #rows() {
    const { range, x_range: inputRange, size, titles } = this.#image;
    const [z, y, x] = this.#voxel;
    const indices = [["x", x], ["y", y], ...(size[0] > 1 ? [["z", z]] : [])];
    const textOf = (picture) =>
      this.#values[picture]
        .map((value) => valueInRange(value, picture === "input" ? inputRange : range))
        .join(" ");
    const rows = [...indices, ["Output", textOf("output")], ...this.#objectRows()];
    if (this.#maskLevel) {
      const isOutside = this.#values.region?.[0] === 0;
      const value = maskValue(this.#values.score, this.#maskLevel, this.#family).toFixed(2);
      rows.push(["Mask", isOutside ? "outside the region" : value]);
    }
    const pictures = PICTURES.filter((picture) => this.#values[picture]);
    rows.push(...pictures.map((picture) => [titles[picture].replace(/ \S+$/, ""), textOf(picture)]));
    const [low, high] = range;
    // An error is a difference of values: in their units, but counted from 0.
    if (this.#values.error) rows.push([titles.error, valueInRange(this.#values.error[0], [0, high - low])]);
    if (this.#values.map) rows.push(["Map", this.#values.map.map((value) => roundToDigits(value, 4)).join(" ")]);
    return rows;
  }

  // What is known of the object under the pointer.
  #objectRows() {
    const { object, score } = this.#values;
    if (!object || !this.#maskLevel) return [];
    const kind = maskValue(score, this.#maskLevel, this.#family) > 0 ? "trusted" : "hidden";
    const extent = [`${object.pixels} pixels`, object.unit && `${roundToDigits(object.extent, 4)} ${object.unit}`];
    return [
      ["Object", `${object.id}, ${kind}`],
      ["Size", extent.filter(Boolean).join(", ")],
      ["Score", roundToDigits(score[0], 4)],
    ];
  }
}
