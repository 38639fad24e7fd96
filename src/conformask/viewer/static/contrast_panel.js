// Panel for the contrast window, as radiologists state it: its level (the middle) and its width, in units of the file.

import { $, togglePanel } from "./dom.js";
import { roundInRange } from "./format.js";

const SLIDER_STEPS = 1000;
const MIN_WIDTH = 1 / 1000; // as a share of the range
const DRAG_LENGTH = 400; // screen pixels of dragging that cross the whole range

/** Return a contrast window [level, width] as bounds in [0, 1], { low, high }; {} for null, the whole range. */
export function contrastBounds(contrast, [low, high]) {
  if (contrast === null) return {};
  const [level, width] = contrast;
  const toUnit = (value) => (value - low) / (high - low);
  return { low: toUnit(level - width / 2), high: toUnit(level + width / 2) };
}

/** The panel with level, width and presets, and the same window by dragging. */
export class ContrastPanel {
  #updateState;
  #range = [0, 1];
  #presets = [];
  #window = [0.5, 1]; // [level, width]

  constructor(updateState) {
    this.#updateState = updateState;
    const valueOf = (event) => Number(event.target.value);
    const setLevel = (level) => this.#setWindow([level, this.#window[1]]);
    const setWidth = (width) => this.#setWindow([this.#window[0], width]);
    $("#level-slider").addEventListener("input", (event) => setLevel(valueOf(event)));
    $("#level-number").addEventListener("change", (event) => setLevel(valueOf(event)));
    $("#width-slider").addEventListener("input", (event) => setWidth(this.#widthAt(valueOf(event))));
    $("#width-number").addEventListener("change", (event) => setWidth(valueOf(event)));
    $("#contrast-preset").addEventListener("change", (event) => {
      const { level, width } = this.#presets[event.target.value];
      this.#setWindow([level, width]);
    });
    $("#full-range").addEventListener("click", () => updateState({ contrast: null }));
    $("#toggle-contrast").addEventListener("click", () => togglePanel("contrast"));
  }

  /** Take the range and the presets of an image. */
  setImage({ range, presets }) {
    this.#range = range;
    this.#presets = presets;
    const select = $("#contrast-preset");
    select.hidden = presets.length === 0;
    select.replaceChildren(new Option("Preset", ""), ...presets.map(({ name }, index) => new Option(name, index)));
    select.options[0].disabled = true; // a title, which is shown for a window that is not a preset
    Object.assign($("#level-slider"), { min: range[0], max: range[1] });
    if (presets.length) togglePanel("contrast", true);
  }

  /** Show the window [level, width] of a state; null is the whole range. */
  render(contrast) {
    const [low, high] = this.#range;
    this.#window = contrast ?? [(low + high) / 2, high - low];
    const [level, width] = this.#window;
    $("#level-slider").value = level;
    $("#width-slider").value = this.#widthPosition(width);
    for (const [name, value] of [["level", level], ["width", width]]) {
      const rounded = roundInRange(value, this.#range);
      $(`#${name}-number`).value = rounded;
      $(`#${name}-slider`).ariaValueText = `${rounded}`;
    }
    const presetIndex = this.#presets.findIndex((preset) => preset.level === level && preset.width === width);
    $("#contrast-preset").value = presetIndex < 0 ? "" : presetIndex;
    $("#full-range").disabled = contrast === null;
    if (contrast !== null) togglePanel("contrast", true);
  }

  /** Change the window by a drag in screen pixels: to the right widens it, downwards brightens. */
  drag(right, down) {
    const [level, width] = this.#window;
    const valuePerPixel = this.#rangeLength / DRAG_LENGTH;
    this.#setWindow([level - down * valuePerPixel, width + right * valuePerPixel]);
  }

  get #rangeLength() {
    return this.#range[1] - this.#range[0];
  }

  // The width slider is logarithmic, from MIN_WIDTH to the whole range: narrow windows need the finer steps.
  #widthAt(position) {
    return this.#rangeLength * MIN_WIDTH ** (1 - position / SLIDER_STEPS);
  }

  #widthPosition(width) {
    return SLIDER_STEPS * (1 - Math.log(width / this.#rangeLength) / Math.log(MIN_WIDTH));
  }

  // Rounded, so that the address stays short.
  #setWindow([level, width]) {
    const [low, high] = this.#range;
    if (!Number.isFinite(level) || !(width > 0)) return this.render(this.#window); // undoes what was typed
    const allowed = [Math.min(Math.max(level, low), high), Math.max(width, MIN_WIDTH * this.#rangeLength)];
    this.#updateState({ contrast: allowed.map((value) => roundInRange(value, this.#range)) });
  }
}
