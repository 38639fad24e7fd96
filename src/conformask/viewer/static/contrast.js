// The contrast window: which values are black and white, by its middle (level) and width, in stated units.

import { rounded } from "./units.js";

const STEPS = 1000;
const NARROWEST = 1 / 1000; // of the range
const ACROSS = 400; // screen pixels of dragging for the whole range
const by = (id) => document.querySelector(id);

// In [0, 1], as the server takes it; nothing for the whole range.
export function boundsOf(contrast, [low, high]) {
  if (contrast === null) return {};
  const [level, width] = contrast;
  const unit = (value) => (value - low) / (high - low);
  return { low: unit(level - width / 2), high: unit(level + width / 2) };
}

export class Contrast {
  #change;
  #range = [0, 1];
  #presets = [];
  #shown = [0.5, 1];

  constructor(change) {
    this.#change = change;
    const value = (event) => Number(event.target.value);
    by("#level").addEventListener("input", (event) => this.#set([value(event), this.#shown[1]]));
    by("#level-number").addEventListener("change", (event) => this.#set([value(event), this.#shown[1]]));
    by("#width").addEventListener("input", (event) =>
      this.#set([this.#shown[0], this.#length * NARROWEST ** (1 - value(event) / STEPS)]));
    by("#width-number").addEventListener("change", (event) => this.#set([this.#shown[0], value(event)]));
    by("#preset").addEventListener("change", (event) => {
      const { level, width } = this.#presets[event.target.value];
      this.#set([level, width]);
    });
    by("#whole-range").addEventListener("click", () => change({ contrast: null }));
    by("#open-contrast").addEventListener("click", () => this.toggle());
  }

  get #length() {
    return this.#range[1] - this.#range[0];
  }

  toggle(open = by("#contrast").hidden) {
    by("#contrast").hidden = !open;
    by("#open-contrast").setAttribute("aria-expanded", open);
  }

  // Another image: its range and presets.
  hold({ range, presets }) {
    this.#range = range;
    this.#presets = presets;
    by("#preset").hidden = presets.length === 0;
    by("#preset").replaceChildren(new Option("Preset", ""), ...presets.map(({ name }, at) => new Option(name, at)));
    by("#preset").options[0].disabled = true;
    Object.assign(by("#level"), { min: range[0], max: range[1] });
    if (presets.length) this.toggle(true);
  }

  show(contrast) {
    const [low, high] = this.#range;
    this.#shown = contrast ?? [(low + high) / 2, high - low];
    const [level, width] = this.#shown;
    by("#level").value = level;
    by("#width").value = STEPS * (1 - Math.log(width / this.#length) / Math.log(NARROWEST));
    for (const [field, value] of [["#level-number", level], ["#width-number", width]])
      by(field).value = rounded(value, this.#range);
    for (const [field, value] of [["#level", level], ["#width", width]])
      by(field).ariaValueText = `${rounded(value, this.#range)}`;
    const chosen = this.#presets.findIndex((preset) => preset.level === level && preset.width === width);
    by("#preset").value = chosen < 0 ? "" : chosen;
    by("#whole-range").disabled = contrast === null;
    if (contrast !== null) this.toggle(true);
  }

  // To the right wider, downwards brighter.
  drag(right, down) {
    const [level, width] = this.#shown;
    const step = this.#length / ACROSS;
    this.#set([level - down * step, width + right * step]);
  }

  #set([level, width]) {
    const [low, high] = this.#range;
    const narrowest = NARROWEST * this.#length;
    if (!Number.isFinite(level) || !(width > 0)) return this.show(this.#shown);
    const kept = [Math.min(Math.max(level, low), high), Math.max(width, narrowest)];
    this.#change({ contrast: kept.map((value) => rounded(value, this.#range)) });
  }
}
