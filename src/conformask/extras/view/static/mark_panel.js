// Panel that chooses how hidden pixels are marked: hatched, outlined or removed, in which colour and how opaque.

import { $, togglePanel } from "./dom.js";
import { readableMode } from "./hidden_marks.js";
import { readPreference, writePreference } from "./preferences.js";

const MODES = ["hatch", "outline", "remove"];
const LEGENDS = {
  hatch: "The output; what is hidden is hatched, where masks are grey the stronger the lower their value.",
  outline: "The output; a line encloses what is hidden, in part or wholly.",
  remove: "The output under its mask, m × ŷ: squares in two greys stand where it is removed.",
};

/** The panel of marks; what it sets is kept by the browser. */
export class MarkPanel {
  #chosen; // { mode, colour, opacity }; without a mode, each image is marked as it is best seen
  #runLength = Infinity; // of the hidden pixels of the image, in pixels of the screen

  constructor(defaultColour, onChange) {
    this.#chosen = { colour: defaultColour, opacity: 0.9, ...readPreference("marks", {}) };
    const updateStyle = (changes) => {
      this.#chosen = { ...this.#chosen, ...changes };
      writePreference("marks", this.#chosen);
      this.#render();
      onChange();
    };
    $("#toggle-marks").addEventListener("click", () => togglePanel("marks"));
    for (const mode of MODES) $(`#mark-${mode}`).addEventListener("click", () => updateStyle({ mode }));
    $("#mark-colour").addEventListener("input", (event) => updateStyle({ colour: event.target.value }));
    $("#mark-opacity").addEventListener("input", (event) => updateStyle({ opacity: Number(event.target.value) }));
    this.#render();
  }

  /** Take the mean length, in pixels of the screen, of the runs of hidden pixels in the rows of an image. */
  setRunLength(runLength) {
    this.#runLength = runLength;
    this.#render();
  }

  /** The style of the marks, { mode, colour, opacity }. */
  get style() {
    return { mode: readableMode(this.#runLength), ...this.#chosen };
  }

  /** A sentence that explains the marks of an overlay. */
  get legend() {
    return LEGENDS[this.style.mode];
  }

  #render() {
    const { mode: current, colour, opacity } = this.style;
    for (const mode of MODES) $(`#mark-${mode}`).setAttribute("aria-pressed", mode === current);
    $("#mark-colour").value = colour;
    $("#mark-colour").disabled = current === "remove"; // its squares are grey in every image
    $("#mark-opacity").value = opacity;
    $("#mark-opacity").ariaValueText = `${Math.round(100 * opacity)} %`;
  }
}
