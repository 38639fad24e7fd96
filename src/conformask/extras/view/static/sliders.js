// Sliders for threshold and confidence, each beside a field in which the number can be typed.

import { $ } from "./dom.js";
import { roundToDigits } from "./format.js";

const THRESHOLD_STEPS = 1000;
const SHOWN_DIGITS = 4;
const CONFIDENCE_DIGITS = 12; // removes the error of dividing a typed percentage by 100

const roundShown = (value) => roundToDigits(value, SHOWN_DIGITS);

/** The two sliders, which report each move and show the setting that is in use. */
export class Sliders {
  #thresholdLimits; // [lowest, highest] of the slider; more can be typed
  #confidenceLimits; // null for a promise about a mean, which has no confidence
  #calibrated; // { threshold, confidence }
  #fields = {}; // by name: { value, error }, the number in use and the reason why it is not allowed

  // onMove(changes, timeStamp): null in the changes stands for the calibrated value.
  constructor({ sliders, promised, distance }, onMove) {
    this.#thresholdLimits = sliders.threshold;
    this.#confidenceLimits = sliders.confidence;
    this.#calibrated = promised;
    $("#threshold-unit").textContent = distance;
    this.#setFixed(sliders.stuck);
    this.#addListeners(onMove);
    this.#renderTicks();
  }

  /** Show a setting, and the threshold that the promise uses, which may be another one than was asked for. */
  render(setting, promise) {
    const threshold = setting.threshold ?? this.#calibrated.threshold;
    const usedThreshold = roundShown(promise?.threshold ?? threshold);
    $("#threshold-slider").value = this.#thresholdPosition(threshold);
    $("#threshold-slider").setAttribute("aria-valuetext", `${usedThreshold}`);
    this.#setField("threshold", usedThreshold, threshold > 0 ? "" : "Must be above 0.");
    if (promise) $("#threshold-values").textContent = `= ${promise.threshold_text}`;
    $("#reset").disabled = setting.threshold === null && setting.confidence === null;
    if (this.#confidenceLimits === null) return;
    const confidence = setting.confidence ?? this.#calibrated.confidence;
    const highest = this.#confidenceLimits[1];
    const percent = roundShown(100 * confidence);
    $("#confidence-slider").value = confidence;
    $("#confidence-slider").setAttribute("aria-valuetext", `${percent} %`);
    const isPossible = confidence > 0 && confidence <= highest;
    const error = isPossible ? "" : `Must be above 0 and at most ${roundShown(100 * highest)} %.`;
    this.#setField("confidence", percent, error);
  }

  // A number that is being typed is not overwritten before the field loses the focus. Until then a note says which
  // number is in use, if it is another one.
  #setField(name, value, error) {
    this.#fields[name] = { value, error };
    const field = $(`#${name}-number`);
    if (document.activeElement !== field) field.value = value;
    const note = error || (roundShown(Number(field.value)) === value ? "" : `${value} is used.`);
    field.setAttribute("aria-invalid", note !== "");
    $(`#${name}-note`).textContent = note;
  }

  #refreshField(name) {
    const { value, error } = this.#fields[name];
    this.#setField(name, value, error);
  }

  // The threshold slider is logarithmic: equal moves change the threshold by equal factors.
  #thresholdPosition(threshold) {
    const [low, high] = this.#thresholdLimits;
    return high > low ? (THRESHOLD_STEPS * Math.log(Math.max(threshold, low) / low)) / Math.log(high / low) : 0;
  }

  #thresholdAt(position) {
    const [low, high] = this.#thresholdLimits;
    return roundShown(low * (high / low) ** (position / THRESHOLD_STEPS));
  }

  #addListeners(onMove) {
    const move = (name, value, event) =>
      onMove({ [name]: value === this.#calibrated[name] ? null : value }, event.timeStamp);
    $("#threshold-slider").addEventListener("input", (event) =>
      move("threshold", this.#thresholdAt(event.target.value), event));
    $("#confidence-slider").addEventListener("input", (event) =>
      move("confidence", Number(event.target.value), event));
    this.#addFieldListeners("threshold", (value, event) => move("threshold", value, event));
    this.#addFieldListeners("confidence", (value, event) =>
      move("confidence", roundToDigits(value / 100, CONFIDENCE_DIGITS), event));
    $("#reset").addEventListener("click", (event) => onMove({ threshold: null, confidence: null }, event.timeStamp));
  }

  // Each number is used while it is typed, even an impossible one: a promise beside the field is always about it.
  #addFieldListeners(name, onNumber) {
    const field = $(`#${name}-number`);
    field.addEventListener("input", (event) => {
      if (field.value === "") this.#refreshField(name);
      else onNumber(Number(field.value), event);
    });
    field.addEventListener("blur", () => this.#refreshField(name));
  }

  // A tick below each slider marks the calibrated value.
  #renderTicks() {
    const thresholdShare = this.#thresholdPosition(this.#calibrated.threshold) / THRESHOLD_STEPS;
    $("#threshold-setting .tick").style.setProperty("--tick-position", thresholdShare);
    $("#confidence-setting").hidden = this.#confidenceLimits === null;
    if (this.#confidenceLimits === null) return;
    const [low, high] = this.#confidenceLimits;
    Object.assign($("#confidence-slider"), { min: low, max: high });
    const confidenceShare = high > low ? (this.#calibrated.confidence - low) / (high - low) : 0;
    $("#confidence-setting .tick").style.setProperty("--tick-position", confidenceShare);
  }

  // Without stored curves only the calibrated promise is known: the reason takes the place of the reset button.
  #setFixed(reason) {
    $("#sliders-fixed").hidden = reason === null;
    $("#sliders-fixed").textContent = reason === null ? "" : `The sliders are fixed: ${reason}`;
    for (const input of document.querySelectorAll("#sliders input")) input.disabled = reason !== null;
    $("#reset").hidden = reason !== null;
  }
}
