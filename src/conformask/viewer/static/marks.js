// How hidden pixels are marked: hatched or outlined, in which colour, how opaque.

import { prefer, preference } from "./preferences.js";

const MODES = ["hatch", "outline"];
const by = (id) => document.querySelector(id);

export class Marks {
  style;

  constructor(colour, redraw) {
    this.style = { mode: "hatch", colour, opacity: 0.9, ...preference("marks", {}) };
    by("#open-marks").addEventListener("click", () => this.toggle());
    const set = (change) => {
      this.style = { ...this.style, ...change };
      prefer("marks", this.style);
      this.#show();
      redraw();
    };
    for (const mode of MODES) by(`#${mode}`).addEventListener("click", () => set({ mode }));
    by("#colour").addEventListener("input", (event) => set({ colour: event.target.value }));
    by("#opacity").addEventListener("input", (event) => set({ opacity: Number(event.target.value) }));
    this.#show();
  }

  toggle(open = by("#marks").hidden) {
    by("#marks").hidden = !open;
    by("#open-marks").setAttribute("aria-expanded", open);
  }

  get legend() {
    return this.style.mode === "hatch"
      ? "The output; what is hidden is hatched, the stronger the less trusted."
      : "The output; a line encloses what is hidden by more than half.";
  }

  #show() {
    for (const mode of MODES) by(`#${mode}`).setAttribute("aria-pressed", mode === this.style.mode);
    by("#colour").value = this.style.colour;
    by("#opacity").value = this.style.opacity;
    by("#opacity").ariaValueText = `${Math.round(100 * this.style.opacity)} %`;
  }
}
