// The page that runs without an installation: pictures, masks at each position of the threshold, and what is promised
// there, all from the page itself. A pixel is hidden at the positions before its code.

import { drawHiddenMarks } from "./hidden_marks.js";

const element = (id) => document.getElementById(id);
const data = JSON.parse(element("data").textContent);
const state = { ...firstOf(data.cases[0]), left: "output", mode: "remove" };
const digits = (value) => Number(value.toPrecision(3)).toString();
const percent = (share) => `${(100 * share).toFixed(1)} %`;

// A case as it is first shown: its most hidden image, which is the first, at the calibrated threshold.
function firstOf(shown) {
  return { case: shown, image: shown.images[0], position: shown.calibrated };
}

const loadPicture = (source) =>
  new Promise((resolve, reject) => {
    const picture = new Image();
    Object.assign(picture, { onload: () => resolve(picture), onerror: reject, src: source });
  });

// The pictures of an image, and its codes, one byte per pixel; loaded once.
const loaded = new Map();
function load(image) {
  if (!loaded.has(image)) loaded.set(image, loadImage(image));
  return loaded.get(image);
}

async function loadImage({ views, codes }) {
  const names = Object.keys(views);
  const [codePicture, ...pictures] = await Promise.all([codes, ...names.map((name) => views[name])].map(loadPicture));
  const { width, height } = codePicture;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(codePicture, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  const bytes = Uint8Array.from({ length: width * height }, (_, pixel) => rgba[4 * pixel]);
  return { width, height, codes: bytes, pictures: Object.fromEntries(names.map((name, i) => [name, pictures[i]])) };
}

function hiddenPart({ width, height, codes }) {
  const image = new ImageData(width, height);
  for (let pixel = 0; pixel < codes.length; pixel++) image.data[4 * pixel + 3] = codes[pixel] > state.position ? 255 : 0;
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return { canvas, left: 0, top: 0, width, height };
}

async function draw() {
  const shown = state.image;
  const image = await load(shown);
  if (shown !== state.image) return;
  element("panels").style.setProperty("--ratio", image.width / image.height);
  const { output, truth, [leftView(shown)]: left } = image.pictures;
  paint(element("first"), left, image);
  const canvas = element("canvas");
  paint(canvas, output, image);
  const scale = canvas.width / image.width / devicePixelRatio;
  const style = { mode: state.mode, colour: data.hatch, opacity: state.mode === "remove" ? 1 : 0.9 };
  const placement = { x: 0, y: 0, scale, density: devicePixelRatio };
  if (scale) drawHiddenMarks(canvas.getContext("2d"), [hiddenPart(image)], style, placement);
  if (truth) paint(element("truth").lastElementChild, truth, image);
}

// A canvas has its height on the page from the style, so that it can be painted again once there is a layout.
function paint(canvas, picture, { width, height }) {
  const density = (devicePixelRatio * canvas.clientWidth) / width;
  Object.assign(canvas, { width: Math.round(width * density), height: Math.round(height * density) });
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = density <= 1; // enlarged pixels are shown as squares
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
}

const leftView = (image) => (image.views[state.left] ? state.left : "output");

function render() {
  const { image, case: shown } = state;
  const promise = shown.states[state.position];
  Object.assign(element("status"), { textContent: promise.status.title, className: `badge ${promise.status.name}` });
  Object.assign(element("sentence"), { textContent: promise.sentence ?? promise.status.text, className: promise.status.name });
  element("explanation").textContent = promise.sentence ? promise.status.text : "";
  element("formula").textContent = promise.formula ?? "";
  element("loss").textContent = promise.loss ?? shown.states[shown.calibrated].loss;
  element("note").textContent = shown.note;
  element("threshold").max = shown.states.length - 1;
  element("threshold").disabled = shown.states.length === 1;
  element("threshold").value = state.position;
  element("threshold-value").textContent = promise.threshold_text;
  element("reset").disabled = state.position === shown.calibrated;
  const { truth } = shown.titles;
  element("truth").hidden = !image.views.truth;
  element("truth").firstElementChild.textContent = truth;
  element("truth").lastElementChild.ariaLabel = `${image.name}: ${truth}`;
  element("first").ariaLabel = `${image.name}: ${shown.titles[leftView(image)]}`;
  element("notes").replaceChildren(...image.notes.map((text) => Object.assign(document.createElement("p"), { className: "note", textContent: text })));
  element("canvas").ariaLabel = `${image.name}: ${percent(image.hidden[state.position])} is hidden`;
  const facts = [[shown.hidden_title, percent(image.hidden[state.position])]];
  if (image.loss) {
    const met = image.met[state.position];
    facts.push(["Loss under the mask", digits(image.loss[state.position])]);
    facts.push([null, met ? "✓ within the threshold" : "✗ beyond the threshold", met ? "pass" : "fail"]);
  }
  if (image.contrast) facts.push([null, image.contrast, "contrast"]);
  element("facts").replaceChildren(...facts.flatMap(([term, value, className = ""]) => [
    ...(term === null ? [] : [Object.assign(document.createElement("dt"), { textContent: term })]),
    Object.assign(document.createElement("dd"), { textContent: value, className }),
  ]));
  for (const option of element("left").options) option.disabled = !image.views[option.value];
  element("left").value = leftView(image);
  for (const button of document.querySelectorAll("[data-mode]"))
    button.setAttribute("aria-pressed", button.dataset.mode === state.mode);
  for (const [index, button] of [...element("images").querySelectorAll("button")].entries())
    button.setAttribute("aria-pressed", shown.images[index] === image);
  for (const [index, button] of [...element("cases").children].entries())
    button.setAttribute("aria-pressed", data.cases[index] === shown);
  draw();
}

function update(changes) {
  Object.assign(state, changes);
  render();
}

function open(shown) {
  element("left").replaceChildren(...["output", "input"].map((view) => new Option(shown.titles[view], view)));
  element("images").replaceChildren(...shown.images.map((image) => {
    const { name } = image;
    const item = document.createElement("li");
    const button = Object.assign(document.createElement("button"), { type: "button", ariaLabel: name, title: name });
    button.append(Object.assign(new Image(), { src: image.views.output, alt: "" }));
    button.addEventListener("click", () => update({ image }));
    item.append(button);
    return item;
  }));
  update(firstOf(shown));
}

function start() {
  element("cases").hidden = data.cases.length === 1;
  element("cases").replaceChildren(...data.cases.map((shown) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: shown.title });
    button.addEventListener("click", () => open(shown));
    return button;
  }));
  element("threshold").addEventListener("input", (event) => update({ position: Number(event.target.value) }));
  element("reset").addEventListener("click", () => update({ position: state.case.calibrated }));
  element("left").addEventListener("change", (event) => update({ left: event.target.value }));
  for (const button of document.querySelectorAll("[data-mode]"))
    button.addEventListener("click", () => update({ mode: button.dataset.mode }));
  new ResizeObserver(() => draw()).observe(element("panels"));
  open(data.cases[0]);
}

start();
