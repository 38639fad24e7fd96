// Threshold (logarithmic) and confidence, as sliders and as numbers.

const STEPS = 1000;
const DIGITS = 4;
const by = (id) => document.querySelector(id);
const rounded = (value) => Number(value.toPrecision(DIGITS));

export class Sliders {
  #threshold;
  #confidence;
  #kept;

  // move(setting, when): null in a setting stands for the calibrated value.
  constructor({ sliders, promised, distance }, move) {
    this.#threshold = sliders.threshold;
    this.#confidence = sliders.confidence;
    this.#kept = promised;
    by("#unit").textContent = distance;
    this.#disable(sliders.stuck);
    this.#listen(move);
    this.#ticks();
  }

  // Put the sliders where a setting is; `used` is what the server made of it.
  show(setting, used) {
    const threshold = setting.threshold ?? this.#kept.threshold;
    const slider = by("#threshold");
    slider.value = this.#place(threshold);
    const shown = rounded(used?.threshold ?? threshold);
    slider.setAttribute("aria-valuetext", `${shown}`);
    this.#type(by("#threshold-number"), shown);
    by("#reset").disabled = setting.threshold === null && setting.confidence === null;
    if (this.#confidence === null) return;
    const confidence = setting.confidence ?? this.#kept.confidence;
    by("#confidence").value = confidence;
    const percent = rounded(100 * confidence);
    by("#confidence").setAttribute("aria-valuetext", `${percent} %`);
    this.#type(by("#confidence-number"), percent);
  }

  #type(field, value) {
    if (document.activeElement !== field) field.value = value;
  }

  #place(threshold) {
    const [low, high] = this.#threshold;
    return high > low ? (STEPS * Math.log(threshold / low)) / Math.log(high / low) : 0;
  }

  #listen(move) {
    const [low, high] = this.#threshold;
    const kept = this.#kept;
    const [least, most] = this.#confidence ?? [0, 1];
    const send = (change, event) => move({ ...change }, event.timeStamp);
    const threshold = (value) => ({ threshold: value > 0 && value !== kept.threshold ? value : null });
    const confidence = (value) => ({ confidence: value > 0 && value !== kept.confidence ? value : null });
    by("#threshold").addEventListener("input", (event) =>
      send(threshold(rounded(low * (high / low) ** (event.target.value / STEPS))), event));
    by("#threshold-number").addEventListener("change", (event) => send(threshold(Number(event.target.value)), event));
    by("#confidence").addEventListener("input", (event) => send(confidence(Number(event.target.value)), event));
    by("#confidence-number").addEventListener("change", (event) =>
      send(confidence(rounded(Math.min(most, Math.max(least, event.target.value / 100)))), event));
    by("#reset").addEventListener("click", (event) => send({ threshold: null, confidence: null }, event));
  }

  #ticks() {
    by("#threshold-slider .tick").style.setProperty("--at", this.#place(this.#kept.threshold) / STEPS);
    by("#confidence-slider").hidden = this.#confidence === null;
    if (this.#confidence === null) return;
    const [low, high] = this.#confidence;
    Object.assign(by("#confidence"), { min: low, max: high });
    Object.assign(by("#confidence-number"), { min: 100 * low, max: 100 * high });
    const at = high > low ? (this.#kept.confidence - low) / (high - low) : 0;
    by("#confidence-slider .tick").style.setProperty("--at", at);
  }

  #disable(reason) {
    by("#stuck").hidden = reason === null;
    by("#stuck").textContent = reason === null ? "" : `The sliders are fixed: ${reason}`;
    for (const field of document.querySelectorAll("#sliders input")) field.disabled = reason !== null;
    by("#reset").hidden = reason !== null;
  }
}
