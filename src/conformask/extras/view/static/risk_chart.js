// Chart of the error that is left against the share of the image that is hidden, with a dot that follows the sliders.

import { $ } from "./dom.js";
import { formatPercent, roundToDigits } from "./format.js";

const WIDTH = 320; // units of the SVG
const HEIGHT = 110;

const pathOf = (xs, ys) => `M${xs.map((x, index) => `${x} ${ys[index]}`).join("L")}`;

/** The chart of one image, { shares, by_score, best } or null where the truth is unknown. */
export class RiskChart {
  #risk = null;

  /** Take the curves of an image. */
  setRisk(risk) {
    this.#risk = risk;
    $("#risk").hidden = risk === null;
    if (risk === null) return;
    const xs = risk.shares.map((share) => WIDTH * share);
    for (const name of ["by_score", "best"])
      $(`#risk .${name}`).setAttribute("d", pathOf(xs, risk[name].map((error) => this.#y(error))));
  }

  /** Show the share that the mask hides. */
  setHidden(share) {
    if (this.#risk === null) return;
    const error = this.#errorAt(share);
    $("#risk circle").setAttribute("cx", WIDTH * share);
    $("#risk circle").setAttribute("cy", this.#y(error));
    const left = roundToDigits(error, 3);
    const text = `${formatPercent(share)} hidden by the score leaves a mean error of ${left} over the pixels shown`;
    $("#risk svg").ariaLabel = text;
    $("#risk .risk-text").textContent = text;
  }

  #y(error) {
    return HEIGHT * (1 - error / (1.05 * Math.max(...this.#risk.by_score) || 1));
  }

  // Linear between the shares that were measured.
  #errorAt(share) {
    const { shares, by_score: errors } = this.#risk;
    const last = shares.length - 1;
    const place = Math.min(share / shares[1], last);
    const before = Math.min(Math.floor(place), last - 1);
    return errors[before] + (place - before) * (errors[before + 1] - errors[before]);
  }
}
