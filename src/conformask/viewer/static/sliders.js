// Threshold (logarithmic) and confidence, as sliders and as numbers.

const STEPS = 1000;
const DIGITS = 4;
const EXACT = 12; // digits of a typed percentage
const by = (id) => document.querySelector(id);
const rounded = (value, digits = DIGITS) => Number(value.toPrecision(digits));

export class Sliders {
  #threshold;
  #confidence;
  #kept;
  #said = {}; // by field: the number in use, and what is wrong with it

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
    by("#threshold").value = this.#place(threshold);
    const shown = rounded(used?.threshold ?? threshold);
    by("#threshold").setAttribute("aria-valuetext", `${shown}`);
    this.#say("threshold", shown, threshold > 0 ? "" : "Must be above 0.");
    by("#reset").disabled = setting.threshold === null && setting.confidence === null;
    if (this.#confidence === null) return;
    const confidence = setting.confidence ?? this.#kept.confidence;
    const most = this.#confidence[1];
    by("#confidence").value = confidence;
    const percent = rounded(100 * confidence);
    by("#confidence").setAttribute("aria-valuetext", `${percent} %`);
    const isPossible = confidence > 0 && confidence <= most;
    this.#say("confidence", percent, isPossible ? "" : `Must be above 0 and at most ${rounded(100 * most)} %.`);
  }

  // What somebody types stays until they leave the field, marked where another number is in use.
  #say(name, value, wrong) {
    this.#said[name] = [value, wrong];
    const field = by(`#${name}-number`);
    if (document.activeElement !== field) field.value = value;
    const note = wrong || (rounded(Number(field.value)) === value ? "" : `${value} is used.`);
    field.setAttribute("aria-invalid", note !== "");
    by(`#${name}-note`).textContent = note;
  }

  #place(threshold) {
    const [low, high] = this.#threshold;
    return high > low ? (STEPS * Math.log(Math.max(threshold, low) / low)) / Math.log(high / low) : 0;
  }

  #listen(move) {
    const [low, high] = this.#threshold;
    const kept = this.#kept;
    const send = (name, value, event) => move({ [name]: value === kept[name] ? null : value }, event.timeStamp);
    by("#threshold").addEventListener("input", (event) =>
      send("threshold", rounded(low * (high / low) ** (event.target.value / STEPS)), event));
    by("#confidence").addEventListener("input", (event) => send("confidence", Number(event.target.value), event));
    this.#typed("threshold", (value, event) => send("threshold", value, event));
    this.#typed("confidence", (value, event) => send("confidence", rounded(value / 100, EXACT), event));
    by("#reset").addEventListener("click", (event) => move({ threshold: null, confidence: null }, event.timeStamp));
  }

  // Every number is asked as it is typed, possible or not, so that the promise is never about another one.
  #typed(name, ask) {
    const field = by(`#${name}-number`);
    field.addEventListener("input", (event) => {
      if (field.value === "") this.#say(name, ...this.#said[name]);
      else ask(Number(field.value), event);
    });
    field.addEventListener("blur", () => this.#say(name, ...this.#said[name]));
  }

  #ticks() {
    by("#threshold-slider .tick").style.setProperty("--at", this.#place(this.#kept.threshold) / STEPS);
    by("#confidence-slider").hidden = this.#confidence === null;
    if (this.#confidence === null) return;
    const [low, high] = this.#confidence;
    Object.assign(by("#confidence"), { min: low, max: high });
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
