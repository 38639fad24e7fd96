// Page of one image: its views, the mask and the promise at the setting of the sliders, and the loss if it has a truth.
//
// By the time an answer of the server comes, the user may have moved on: an answer about another image or setting than
// the current one is dropped.

import * as api from "./api.js";
import { ChannelPanel } from "./channel_panel.js";
import { contrastBounds, ContrastPanel } from "./contrast_panel.js";
import { planeShape } from "./coordinates.js";
import { $, createElement } from "./dom.js";
import { formatPercent, progressText, roundToDigits } from "./format.js";
import { LatestTask } from "./latest_task.js";
import { MarkPanel } from "./mark_panel.js";
import { Pane, TITLES } from "./pane.js";
import { PlaneCache } from "./plane_cache.js";
import { addCaption, downloadPng, EXPORT_DENSITY } from "./png_export.js";
import { readPreference, writePreference } from "./preferences.js";
import { BEYOND_THRESHOLD, releaseText, renderPromise, WITHIN_THRESHOLD } from "./promise.js";
import { Readout } from "./readout.js";
import { RiskChart } from "./risk_chart.js";
import { VIEWS } from "./state.js";

const PANE_COUNT = 3; // a volume has three orientations
const NEEDS_TRUTH = ["truth", "error"];
const LEGENDS = {
  mask: "White = trusted, black = hidden.",
  input: "What the network was given, at the size of its output.",
};
const OBJECTS_LEGEND = "Objects: outlined in green where trusted, in orange where hidden; click one for its facts.";
const REGION_LEGEND = "Grey: outside the region that the promise is about.";
const PENDING = "…";
const LOSS_DELAY = 120; // milliseconds without a move before the loss, which reads the truth, is requested
const ZOOM_IN = 1.25;
const ZOOM_OUT = 0.8;

const formatNumber = (value) => roundToDigits(value, 3).toString();

/** The page of an image, which follows the state of the application. */
export class ImagePage {
  #updateState;
  #sliders;
  #whereHidden; // such as " of the nuclei", what the hidden share is a share of; "" for the image
  #panes; // the first is the large one; the others are shown for volumes
  #contrastPanel;
  #channelPanel;
  #markPanel;
  #readout;
  #riskChart = new RiskChart();
  #promiseTask;
  #lossTask;
  #drawTask;
  #lossTimer;
  #state = null;
  #lossOver; // ", over all pixels"; empty where the loss is no mean
  #name = null; // of the image that is shown or being loaded
  #image = null; // as the server describes it; null while it is loaded
  #planeCache = null;
  #promise = null; // at the setting that is drawn
  #maskLevel = null; // at the setting that is drawn

  constructor(session, sliders, updateState, showError) {
    this.#updateState = updateState;
    this.#sliders = sliders;
    this.#lossOver = session.loss_over && `, over ${session.loss_over}`;
    this.#whereHidden = session.where_hidden;
    this.#promiseTask = new LatestTask((...request) => this.#updatePromise(...request), showError);
    this.#lossTask = new LatestTask((...request) => this.#updateLoss(...request), showError);
    this.#drawTask = new LatestTask(() => this.#draw(), showError);
    this.#contrastPanel = new ContrastPanel(updateState);
    this.#channelPanel = new ChannelPanel(updateState);
    $("#smooth-zoom").checked = readPreference("smooth", false);
    const renderSmooth = () => $("#panes").classList.toggle("smooth", $("#smooth-zoom").checked);
    $("#smooth-zoom").addEventListener("change", () => {
      writePreference("smooth", $("#smooth-zoom").checked);
      renderSmooth();
    });
    renderSmooth();
    this.#markPanel = new MarkPanel(session.hatch, () => this.#drawTask.request());
    this.#readout = new Readout($("#readout"), session.family);
    this.#panes = this.#createPanes(session);
    const views = VIEWS.filter((view) => view !== "map" || session.maps);
    $("#view-buttons").replaceChildren(...views.map((view, index) => this.#createViewButton(view, index + 1)));
    for (const side of ["left", "right"]) {
      $(`#${side}-view`).replaceChildren(...views.map((view) => new Option(TITLES[view], view)));
      $(`#${side}-view`).addEventListener("change", () =>
        updateState({ swipe: [$("#left-view").value, $("#right-view").value] }));
    }
    $("#toggle-swipe").addEventListener("click", () => this.toggleSwipe());
    $("#save-png").addEventListener("click", () => this.#savePng().catch(showError));
    $("#zoom-in").addEventListener("click", () => this.zoomIn());
    $("#zoom-out").addEventListener("click", () => this.zoomOut());
    $("#zoom-fit").addEventListener("click", () => this.zoomToFit());
  }

  // The pane of the HTML is the large one. Its copies leave out what is there once: ids, the choice of the views of a
  // swipe, and the progress of loading.
  #createPanes(session) {
    const mainRoot = $(".pane");
    const roots = [mainRoot, ...Array.from({ length: PANE_COUNT - 1 }, () => mainRoot.cloneNode(true))];
    for (const root of roots.slice(1)) {
      for (const element of root.querySelectorAll("select, #loading")) element.remove();
      for (const element of root.querySelectorAll("[id]")) element.removeAttribute("id");
    }
    $("#panes").replaceChildren(...roots);
    const callbacks = {
      onVoxelClick: (voxel) => this.#selectVoxel(voxel),
      onHover: (voxel) => this.#image && this.#readout.setVoxel(voxel ?? this.#restingVoxel),
      onSliceStep: (axis, steps) => this.#moveCrosshair(axis, steps),
      onSliceChange: (axis, index) => this.#selectVoxel(this.#voxel.with(axis, index)),
      onWindowDrag: (right, down) => this.#contrastPanel.drag(right, down),
      onEnlarge: (orientationName) => this.#updateState({ plane: orientationName }),
      onTransform: () => ($("#zoom-fit").textContent = `${Math.round(100 * this.#panes[0].scale)} %`),
    };
    return roots.map((root) => new Pane(root, session, callbacks));
  }

  #createViewButton(view, key) {
    const title = `${TITLES[view]} (${key})`;
    const button = createElement("button", { type: "button", textContent: TITLES[view], title });
    button.dataset.view = view;
    button.addEventListener("click", () => this.selectView(view));
    return button;
  }

  /** Show a view, in a swipe on the right. */
  selectView(view) {
    if (!this.#isAvailable(view)) return;
    const { swipe } = this.#state;
    this.#updateState(swipe ? { swipe: [swipe[0], view] } : { view });
  }

  /** Begin a swipe comparison of the output with the current view, or end it. */
  toggleSwipe() {
    const { swipe, view } = this.#state;
    this.#updateState({ swipe: swipe ? null : ["output", view === "output" ? "overlay" : view] });
  }

  /** Zoom into the large pane. */
  zoomIn() {
    this.#panes[0].zoom(ZOOM_IN);
  }

  /** Zoom out of the large pane. */
  zoomOut() {
    this.#panes[0].zoom(ZOOM_OUT);
  }

  /** Zoom so that the plane of each pane just fits. */
  zoomToFit() {
    for (const pane of this.#panes) pane.zoomToFit();
  }

  /** Move a number of slices through a volume, in the large pane. */
  stepSlices(steps) {
    if (this.#isVolume) this.#moveCrosshair(this.#orientations[0].axis, steps);
  }

  /** Enlarge the next orientation of a volume. */
  enlargeNext() {
    if (this.#isVolume) this.#updateState({ plane: this.#orientations[1].name });
  }

  #moveCrosshair(axis, steps) {
    const last = this.#image.size[axis] - 1;
    this.#selectVoxel(this.#voxel.with(axis, Math.min(Math.max(this.#voxel[axis] + steps, 0), last)));
  }

  // In a volume the crosshair moves there; in an image of one plane, where a tap has no pointer that hovers, the voxel
  // is read out.
  #selectVoxel(voxel) {
    if (this.#isVolume) this.#updateState({ at: voxel });
    else this.#readout.setVoxel(voxel);
  }

  get #isVolume() {
    return this.#image?.views.length > 1;
  }

  // The crosshair: that of the state, if it lies in the image, else the middle of the most hidden slice.
  get #voxel() {
    const { size, most_hidden: mostHidden } = this.#image;
    const voxel = this.#isVolume ? this.#state.at : null;
    const isInside = voxel?.every((index, axis) => Number.isInteger(index) && index >= 0 && index < size[axis]);
    return isInside ? voxel : [mostHidden[0], Math.floor(size[1] / 2), Math.floor(size[2] / 2)];
  }

  // What is read out while no pointer hovers.
  get #restingVoxel() {
    return this.#isVolume ? this.#voxel : null;
  }

  // As the panes show them: the chosen one first, then the others in cyclic order.
  get #orientations() {
    const orientations = this.#image.views;
    const first = Math.max(0, orientations.findIndex(({ name }) => name === this.#state.plane));
    return [...orientations.slice(first), ...orientations.slice(0, first)];
  }

  /** Show a state; inputTime is the time stamp of a slider's event, from which the time to the redraw is measured. */
  async render(state, inputTime) {
    const setting = settingOf(state);
    const previous = this.#state;
    this.#state = state;
    this.#sliders.render(setting);
    if (state.name !== this.#name) return this.#open(state.name).catch((error) => this.#close(state.name, error));
    if (this.#image === null) return undefined;
    if (previous.plane !== state.plane) this.#assignPanes();
    this.#contrastPanel.render(state.contrast);
    this.#channelPanel.render(state.channels);
    if (!isSameSetting(previous, state)) return this.#promiseTask.request(state.name, setting, inputTime);
    return this.#drawTask.request();
  }

  async #open(name) {
    this.#name = name;
    this.#image = this.#maskLevel = this.#promise = null;
    this.#clearFacts();
    $("#loading").hidden = false;
    $("#panes").dataset.layout = "empty";
    $("#plane").hidden = true;
    this.#renderProgress(name, null);
    const image = await api.withProgress(api.fetchImage(name), (progress) => this.#renderProgress(name, progress));
    if (name !== this.#name) return;
    this.#image = image;
    this.#planeCache = new PlaneCache(name, Math.max(...image.views.map((view) => pixelCount(view, image.size))));
    this.#contrastPanel.setImage(image);
    this.#contrastPanel.render(this.#state.contrast);
    this.#channelPanel.setImage(image);
    this.#channelPanel.render(this.#state.channels);
    this.#readout.setImage(image);
    this.#riskChart.setRisk(image.risk);
    this.#renderNotes(image.notes);
    this.#disableUnavailableViews();
    this.#renderTitles(image.titles);
    this.#assignPanes();
    this.#markPanel.setRunLength((image.hidden_run ?? Infinity) * this.#panes[0].scale);
    await this.#updatePromise(name, settingOf(this.#state)); // a slider may have moved while it loaded
    if (name !== this.#name) return;
    $("#loading").hidden = true;
    $("#plane").hidden = $("#save-png").disabled = false;
    // The link that was followed in the gallery is hidden now: the focus would be lost.
    if (document.activeElement === document.body) $("#front-canvas").focus({ preventScroll: true });
  }

  // After a failure, so that the image can be opened again; nothing is promised about it. The failure of an image that
  // was left meanwhile is not that of the image which is open now.
  #close(name, error) {
    if (name !== this.#name) return;
    this.#name = null;
    $("#loading").hidden = true;
    throw error;
  }

  // Nothing that the page says about an image is left under the name of another, nor can it be saved.
  #clearFacts() {
    this.#riskChart.setRisk(null);
    for (const id of ["image-promise", "facts", "legend", "readout"]) $(`#${id}`).replaceChildren();
    $("#meaning").hidden = $("#save-png").disabled = true;
    this.#renderNotes([]);
  }

  #renderNotes(notes) {
    $("#notes").replaceChildren(...notes.map((text) => createElement("p", { className: "note", textContent: text })));
  }

  // Images are scored one after the other: the progress may be that of an image that was opened before.
  #renderProgress(name, progress) {
    if (name !== this.#name) return;
    $("#tile-progress").hidden = progress === null;
    if (progress === null) return;
    Object.assign($("#tile-progress progress"), { max: progress.total, value: progress.done });
    const text = progressText(progress);
    $("#tile-progress span").textContent = progress.name === name ? text : `First ${progress.name}: ${text}`;
  }

  #assignPanes() {
    const isVolume = this.#isVolume;
    $("#panes").dataset.layout = isVolume ? "volume" : "single";
    this.#orientations.forEach((orientation, index) =>
      this.#panes[index].setImage(this.#image, this.#planeCache, orientation, { isMain: index === 0, isVolume }));
  }

  #disableUnavailableViews() {
    for (const view of VIEWS) {
      const controls = `#view-buttons [data-view=${view}], #left-view [value=${view}], #right-view [value=${view}]`;
      for (const control of document.querySelectorAll(controls)) control.disabled = !this.#isAvailable(view);
    }
  }

  // A noisy reference is not called the truth.
  #renderTitles(titles) {
    for (const button of document.querySelectorAll("#view-buttons [data-view]")) {
      const title = titles[button.dataset.view];
      Object.assign(button, { textContent: title, title: button.title.replace(/^.* (?=\()/, `${title} `) });
    }
    for (const option of document.querySelectorAll("#left-view option, #right-view option"))
      option.textContent = titles[option.value];
  }

  #isAvailable(view) {
    if (this.#image === null) return false;
    return view === "map" ? this.#image.map_range !== null : this.#image.truth || !NEEDS_TRUTH.includes(view);
  }

  // The promise and the mask change together: the texts come with the answer, the drawing follows at once, and the
  // loss when the slider rests.
  async #updatePromise(name, setting, inputTime) {
    const promise = await api.fetchPromise(name, setting);
    if (name !== this.#name || this.#image === null) return;
    this.#promise = promise;
    this.#maskLevel = promise.opening.level;
    this.#sliders.render(settingOf(this.#state), promise);
    this.#renderPromise();
    await this.#draw();
    if (inputTime !== undefined) performance.measure("slider to redraw", { start: inputTime });
    clearTimeout(this.#lossTimer);
    if (this.#image?.measurable)
      this.#lossTimer = setTimeout(() => this.#lossTask.request(name, setting), LOSS_DELAY);
  }

  #renderPromise() {
    const promise = this.#promise;
    renderPromise($("#image-promise"), promise, promise.measured, promise.release);
    $("#meaning").hidden = !promise.holds;
    $("#holds").textContent = promise.holds ?? "";
    $("#silent").textContent = promise.silent ?? "";
    this.#riskChart.setHidden(promise.opening.size);
    this.#renderFacts(this.#image.measurable ? { loss: PENDING, unmasked: PENDING, met: null } : null);
  }

  async #updateLoss(name, setting) {
    const { loss, unmasked, met } = await api.fetchLoss(name, setting);
    if (name !== this.#name || this.#promise === null || !isSameSetting(setting, this.#state)) return;
    this.#renderFacts({ loss: formatNumber(loss), unmasked: formatNumber(unmasked), met });
  }

  // losses: { loss, unmasked, met }, texts and whether the threshold is met, or null before that is known; null
  // for an image whose losses cannot be measured.
  #renderFacts(losses) {
    const { region, bound, remarks } = this.#image;
    const facts = [[`Hidden${this.#whereHidden}`, formatPercent(this.#promise.opening.size)]];
    if (losses !== null)
      facts.push(
        [`Loss under the mask${this.#lossOver && this.#lossOver + (region ? " in the region" : "")}`, losses.loss, losses.met],
        ["Without a mask", losses.unmasked],
      );
    if (bound !== null) facts.push(["Promised without a mask", bound]); // of the output; needs no truth
    facts.push(...remarks);
    const judged = this.#promise.release?.image;
    if (judged) facts.push(["Release", `${releaseText(judged.released)}, p = ${formatNumber(judged.p_value)}`]);
    if (judged && !judged.released) facts.push(["Why", judged.reasons.join("; ")]);
    $("#facts").replaceChildren(...facts.map((fact) => createFactRow(...fact)));
  }

  // Save the large picture as it is seen, with all that the page says about it.
  async #savePng() {
    if (this.#promise === null) return;
    const [left, right] = this.#panes[0].descriptions;
    const { status, sentence, formula, measured, release } = this.#promise;
    const textOf = (row) => [...row.children].map((element) => element.textContent).join(" ").trim();
    const paragraphs = [
      right ? `Left: ${left}. Right: ${right}.` : `${left}.`,
      $("#legend").textContent,
      `${status.title}: ${sentence ?? status.text}`,
      measured === status.text ? null : measured,
      release?.sentence,
      [...$("#facts").children].map(textOf).join(" · "),
      ...this.#image.notes,
      formula,
    ].filter(Boolean);
    const canvas = addCaption(this.#panes[0].exportPicture(EXPORT_DENSITY), paragraphs);
    await downloadPng(canvas, `${this.#name}.png`);
  }

  async #draw() {
    if (this.#maskLevel === null) return;
    const { swipe, view, contrast } = this.#state;
    // A link, or the view of the last image, may name a view that this image does not have.
    const views = (swipe ?? [view, null]).map((name) => (name && !this.#isAvailable(name) ? "output" : name));
    this.#renderViewControls(views);
    this.#readout.setMaskLevel(this.#maskLevel);
    const panes = this.#panes.slice(0, this.#image.views.length);
    const request = {
      voxel: this.#voxel,
      views,
      displayOptions: {
        ...contrastBounds(contrast ?? this.#image.window, this.#image.range),
        ...this.#channelPanel.queryParameters,
      },
      maskLevel: this.#maskLevel,
      markStyle: this.#markPanel.style,
    };
    const drawn = Promise.all(panes.map((pane) => pane.draw(request)));
    // The pointer may rest on a pane whose slice has changed.
    const hoveredVoxel = panes.map((pane) => pane.hoveredVoxel).find(Boolean);
    if (hoveredVoxel || this.#isVolume) this.#readout.setVoxel(hoveredVoxel ?? this.#voxel);
    await drawn;
    if (this.#isVolume) panes[0].prefetch();
  }

  #renderViewControls([left, right]) {
    $("#toggle-swipe").setAttribute("aria-pressed", Boolean(right));
    for (const [select, view] of [[$("#left-view"), left], [$("#right-view"), right]]) {
      select.hidden = !right;
      if (right) select.value = view;
    }
    const buttonView = right ?? left; // which the buttons change
    for (const button of $("#view-buttons").children)
      button.setAttribute("aria-pressed", button.dataset.view === buttonView);
    const usesChannels = [left, right].some((view) => view && !["mask", "error", "map"].includes(view));
    $("#legend").textContent = [
      this.#legendOf(buttonView),
      usesChannels ? this.#channelPanel.legend : "",
      usesChannels && this.#state.contrast === null && this.#image.contrast ? `${this.#image.contrast}.` : "",
      this.#image.objects && buttonView === "overlay" ? OBJECTS_LEGEND : "",
      this.#image.region ? REGION_LEGEND : "",
    ].filter(Boolean).join(" ");
  }

  #legendOf(view) {
    if (view === "overlay") return this.#markPanel.legend;
    if (view === "map") return mapLegend(this.#image.map_range);
    if (view !== "error") return LEGENDS[view] ?? "";
    const [low, high] = this.#image.range;
    return `|y − ŷ|, black = 0 to bright = ${formatNumber(this.#image.error_scale * (high - low))} and more.`;
  }
}

const mapLegend = ([low, high]) =>
  `The map beside ŷ (of several, their mean), black = ${formatNumber(low)} to bright = ${formatNumber(high)}: ` +
  "all its values but 0.5 % at each end.";
const settingOf = ({ threshold, confidence }) => ({ threshold, confidence });
const isSameSetting = (a, b) => a.threshold === b.threshold && a.confidence === b.confidence;

// Of a plane as the server sends it whole, which is reduced if it is large.
function pixelCount(orientation, size) {
  const [rows, columns] = planeShape(orientation, size);
  return (rows * columns) / orientation.step ** 2;
}

// A term, its value and a verdict, which is empty where isMet is undefined or null.
function createFactRow(label, value, isMet = null) {
  const verdict = createElement("dd", { className: "verdict" });
  if (isMet !== null) {
    verdict.classList.add(isMet ? "pass" : "fail");
    verdict.textContent = isMet ? WITHIN_THRESHOLD : BEYOND_THRESHOLD;
  }
  const row = createElement("div");
  row.append(createElement("dt", { textContent: label }), createElement("dd", { textContent: value }), verdict);
  return row;
}
