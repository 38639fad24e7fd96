// Panel for the contrast window, as radiologists state it: its level (the middle) and its width, in units of the file.

import { $, togglePanel } from "./dom.js";
import { roundInRange } from "./format.js";

const SLIDER_STEPS = 1000;
const MIN_WIDTH = 1 / 1000; // as a share of the range
const DRAG_LENGTH = 400; // screen pixels of dragging that cross the whole range

/** Return a contrast window [level, width] as bounds in [0, 1], { low, high }; {} for null, the full range. */
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
  #mostValues = [0.5, 1]; // the window of all values but a few
  #default = null; // the window of the image, where the state has none; null is the full range
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
    const choose = (contrast) => updateState({ contrast: isSame(contrast, this.#default) ? null : contrast });
    $("#full-range").addEventListener("click", () => choose(this.#default === null ? null : this.#fullRange));
    $("#most-values").addEventListener("click", () => choose(this.#mostValues));
    $("#toggle-contrast").addEventListener("click", () => togglePanel("contrast"));
  }

  /** Take the range and the presets of an image. */
  setImage({ range, presets, window, most_values: mostValues, histogram }) {
    this.#range = range;
    this.#presets = presets;
    this.#default = window;
    this.#mostValues = mostValues;
    renderHistogram(histogram);
    const select = $("#contrast-preset");
    select.hidden = presets.length === 0;
    select.replaceChildren(new Option("Preset", ""), ...presets.map(({ name }, index) => new Option(name, index)));
    select.options[0].disabled = true; // a title, which is shown for a window that is not a preset
    Object.assign($("#level-slider"), { min: range[0], max: range[1] });
    if (presets.length) togglePanel("contrast", true);
  }

  /** Show the window [level, width] of a state; null is that of the image, or the full range. */
  render(contrast) {
    const [low, high] = this.#range;
    this.#window = contrast ?? this.#default ?? this.#fullRange;
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
    $("#full-range").disabled = isSame(this.#window, this.#fullRange);
    $("#most-values").disabled = isSame(this.#window, this.#mostValues);
    const start = (100 * (level - width / 2 - low)) / (high - low);
    Object.entries({ x: start, width: (100 * width) / (high - low) }).forEach(([name, value]) =>
      $("#histogram rect").setAttribute(name, value));
    if (contrast !== null) togglePanel("contrast", true);
  }

  /** Change the window by a drag in screen pixels: to the right widens it, downwards brightens. */
  drag(right, down) {
    const [level, width] = this.#window;
    const valuePerPixel = this.#rangeLength / DRAG_LENGTH;
    this.#setWindow([level - down * valuePerPixel, width + right * valuePerPixel]);
  }

  get #fullRange() {
    const [low, high] = this.#range;
    return [(low + high) / 2, high - low];
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

const isSame = (one, other) => JSON.stringify(one) === JSON.stringify(other);

// The counts of the values, from black to white, as heights: their square roots, so that a black background does not
// flatten all others.
function renderHistogram(counts) {
  const highest = Math.sqrt(Math.max(...counts, 1));
  const step = 100 / counts.length;
  const steps = counts.map((count, index) => {
    const y = 24 * (1 - Math.sqrt(count) / highest);
    return `L${step * index} ${y}L${step * (index + 1)} ${y}`;
  });
  $("#histogram path").setAttribute("d", `M0 24${steps.join("")}L100 24Z`);
  $("#histogram").ariaLabel = "How often each value of the output occurs, from black to white";
}
