// Panel that chooses how hidden pixels are marked: hatched or outlined, in which colour and how opaque.

import { $, togglePanel } from "./dom.js";
import { readPreference, writePreference } from "./preferences.js";

const MODES = ["hatch", "outline"];

/** The panel of marks; the style that it sets, { mode, colour, opacity }, is kept by the browser. */
export class MarkPanel {
  style;

  constructor(defaultColour, onChange) {
    this.style = { mode: "hatch", colour: defaultColour, opacity: 0.9, ...readPreference("marks", {}) };
    const updateStyle = (changes) => {
      this.style = { ...this.style, ...changes };
      writePreference("marks", this.style);
      this.#render();
      onChange();
    };
    $("#toggle-marks").addEventListener("click", () => togglePanel("marks"));
    for (const mode of MODES) $(`#mark-${mode}`).addEventListener("click", () => updateStyle({ mode }));
    $("#mark-colour").addEventListener("input", (event) => updateStyle({ colour: event.target.value }));
    $("#mark-opacity").addEventListener("input", (event) => updateStyle({ opacity: Number(event.target.value) }));
    this.#render();
  }

  /** A sentence that explains the marks of an overlay. */
  get legend() {
    return this.style.mode === "hatch"
      ? "The output; what is hidden is hatched, where masks are grey the stronger the lower their value."
      : "The output; a line encloses what is hidden, in part or wholly.";
  }

  #render() {
    for (const mode of MODES) $(`#mark-${mode}`).setAttribute("aria-pressed", mode === this.style.mode);
    $("#mark-colour").value = this.style.colour;
    $("#mark-opacity").value = this.style.opacity;
    $("#mark-opacity").ariaValueText = `${Math.round(100 * this.style.opacity)} %`;
  }
}
