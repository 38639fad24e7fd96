// Pane: one plane of an image in a viewport, with the marks of hidden pixels, crosshair, directions and scale bar.
//
// A plane is drawn in two layers, of which the front one lies over the back one. Outside a swipe comparison there is
// only the front; in one, the front is the left view, clipped at the border, and the back is the right view.
// A plane of too many pixels arrives reduced: each layer has a second canvas (.detail) over the first, for the visible
// part at a smaller reduction.
//
// Plane positions [x, y], as in viewport.js, are pixels of the plane, before any reduction, times the pixel size.

import { pixelSize, pixelToVoxel, planeShape, voxelToPixel } from "./coordinates.js";
import { $ } from "./dom.js";
import { drawBorders, drawHiddenMarks, hiddenCanvas, objectBorders } from "./hidden_marks.js";
import { maskBytes, paintGrey } from "./mask.js";
import { drawScaleBar, scaleBar } from "./scale_bar.js";
import { Viewport } from "./viewport.js";

/** The titles of views, by view, before an image is open: it brings its own. */
export const TITLES = {
  output: "Output ŷ", overlay: "Overlay", mask: "Mask", truth: "Truth y", input: "Input x", error: "Error", map: "Map",
};

const LAYERS = ["front", "back"];
const DETAIL_DELAY = 120; // milliseconds without a move before the detail is requested
const MAX_DETAIL_PIXELS = 2 ** 25; // that the server would have to read for it
const MAX_BAR_WIDTH = 140; // screen pixels

/** A pane, which draws what it is asked to and reports what the user does in it. */
export class Pane {
  #root;
  #viewport;
  #session;
  #callbacks;
  #image = null;
  #planeCache;
  #orientation;
  #isVolume = false;
  #pixelSize = [1, 1];
  #request = null; // the last argument of draw
  #detailPart = null; // { top, bottom, left, right, step } of the plane; null where the reduced plane is enough
  #detailTimer;
  #lastMask = {}; // { score, maskLevel, bytes }, kept since both sides of a swipe and every redraw need it
  #hiddenParts = []; // for drawHiddenMarks

  // callbacks: onVoxelClick(voxel), onHover(voxel or null), onSliceStep(axis, steps), onSliceChange(axis, index),
  // onWindowDrag(right, down), onEnlarge(orientation name), onTransform().
  constructor(root, session, callbacks) {
    this.#root = root;
    this.#session = session;
    this.#callbacks = callbacks;
    this.#viewport = new Viewport(this.#find(".viewport"), {
      onTransform: () => this.#handleTransform(),
      onClick: (position) => callbacks.onVoxelClick(this.#voxelAt(position)),
      onHover: (position) => callbacks.onHover(position && this.#voxelAt(position)),
      onWindowDrag: callbacks.onWindowDrag,
    });
    this.#find(".slice-control input").addEventListener("input", (event) =>
      callbacks.onSliceChange(this.#orientation.axis, Number(event.target.value)));
    this.#find(".orientation-name").addEventListener("click", () => callbacks.onEnlarge(this.#orientation.name));
  }

  #find(selector) {
    return this.#root.querySelector(selector);
  }

  /** The voxel under the pointer; null outside the plane. */
  get hoveredVoxel() {
    const position = this.#viewport.hoveredPosition;
    return position && this.#voxelAt(position);
  }

  /** The zoom: screen pixels per pixel of the image, along the axis with the smallest spacing. */
  get scale() {
    return this.#viewport.transform.scale;
  }

  /** The text alternatives of what is shown: one, or those of the left and right view of a swipe. */
  get descriptions() {
    const layers = this.#request.views[1] ? LAYERS : ["front"];
    return layers.map((layer) => this.#find(`canvas.${layer}`).ariaLabel);
  }

  /** Zoom by a factor, around the middle. */
  zoom(factor) {
    this.#viewport.zoom(factor);
  }

  /** Zoom so that the plane just fits. */
  zoomToFit() {
    this.#viewport.fit();
  }

  /** Take an image in an orientation; the main pane is the large one, whose button has nothing to enlarge. */
  setImage(image, planeCache, orientation, { isMain, isVolume }) {
    this.#image = image;
    this.#planeCache = planeCache;
    this.#orientation = orientation;
    this.#isVolume = isVolume;
    this.#detailPart = null;
    this.#hiddenParts = [];
    this.#pixelSize = pixelSize(orientation, image.steps);
    const { axis, name, letters } = orientation;
    this.#viewport.onSliceStep = isVolume ? (steps) => this.#callbacks.onSliceStep(axis, steps) : null;
    const sliceCount = image.size[axis];
    Object.assign(this.#find(".slice-control input"), { max: sliceCount - 1, ariaLabel: `${name} slice` });
    const tickPosition = sliceCount > 1 ? image.most_hidden[axis] / (sliceCount - 1) : 0;
    this.#find(".slice-control .tick").style.setProperty("--tick-position", tickPosition);
    this.#find(".slice-control").hidden = !isVolume;
    Object.assign(this.#find(".orientation-name"), { textContent: name, hidden: !isVolume, disabled: isMain });
    ["left", "right", "top", "bottom"].forEach((side, index) => {
      this.#find(`.direction.${side}`).textContent = letters[index] ?? "";
    });
    const [rows, columns] = planeShape(orientation, image.size);
    this.#viewport.setPlaneSize(columns * this.#pixelSize[0], rows * this.#pixelSize[1]);
  }

  // A request is { voxel, views, displayOptions, maskLevel, markStyle }, where views are [only one, null], or the left
  // and the right one of a swipe. Nothing changes before everything has been fetched, and nothing if another request
  // has come meanwhile: requests that overtake each other must not mix the mask of one with the picture of another.

  /** Draw what a request describes. */
  async draw(request) {
    this.#request = request;
    const whole = { ...this.#plane(), step: this.#orientation.step };
    const detail = this.#detailPart && { ...this.#plane(), ...this.#detailPart };
    const [wholeContent, detailContent] = await Promise.all([
      this.#fetchContent(whole),
      detail && this.#fetchContent(detail).catch(() => null), // without the detail, the reduced plane is shown
    ]);
    if (request !== this.#request) return;
    this.#paint("", whole, wholeContent);
    this.#paint(".detail", detailContent && detail, detailContent);
    this.#hiddenParts = [[whole, wholeContent], [detail, detailContent]].flatMap(([plane, content]) =>
      content?.hidden ? { canvas: content.hidden, borders: content.borders, ...this.#boxOf(plane) } : []);
    this.#find(".back-layer").hidden = !request.views[1];
    this.#viewport.setSwiping(Boolean(request.views[1]));
    this.#renderLabels();
    this.#handleTransform();
  }

  /** Fetch the planes on both sides of the one that is shown, for the next move. */
  prefetch() {
    const { axis, step } = this.#orientation;
    for (const offset of [1, -1]) {
      const at = this.#request.voxel[axis] + offset;
      if (at >= 0 && at < this.#image.size[axis]) this.#fetchContent({ axis, at, step }).catch(() => {});
    }
  }

  // As the server takes it, see api.js.
  #plane() {
    const { axis } = this.#orientation;
    return { axis, at: this.#request.voxel[axis] };
  }

  // What a plane, or a part of it, needs: a picture for each layer, a canvas of what is hidden and the borders of
  // objects if there is an overlay, and a picture of what lies outside the region that the promise is about, if any.
  async #fetchContent(plane) {
    const { views, maskLevel, markStyle } = this.#request;
    const [outside, score, labels, ...pictures] = await Promise.all([
      this.#image.region && this.#planeCache.outside(plane),
      views.includes("overlay") && this.#planeCache.values("score", plane),
      views.includes("overlay") && this.#image.objects && this.#planeCache.values("labels", plane),
      ...views.map((view) => view && this.#fetchPicture(view, plane)),
    ]);
    const mask = score && this.#maskOf(score, maskLevel);
    const hidden = score && hiddenCanvas(mask, ...this.#sizeOf(plane), markStyle.mode, outside);
    const borders = labels && objectBorders(labels, mask, this.#sizeOf(plane)[0]);
    return { outside, hidden, borders, pictures };
  }

  // The mask is drawn here, from its score; every other picture comes from the server.
  async #fetchPicture(view, plane) {
    const { displayOptions, maskLevel } = this.#request;
    if (view !== "mask")
      return this.#planeCache.picture(view === "overlay" ? "output" : view, plane, displayOptions);
    const score = await this.#planeCache.values("score", plane);
    const image = new ImageData(...this.#sizeOf(plane));
    paintGrey(image.data, this.#maskOf(score, maskLevel));
    return image;
  }

  #maskOf(score, maskLevel) {
    if (this.#lastMask.score !== score || this.#lastMask.maskLevel !== maskLevel) {
      const bytes = maskBytes(score, this.#image.channels, maskLevel, this.#session.family);
      this.#lastMask = { score, maskLevel, bytes };
    }
    return this.#lastMask.bytes;
  }

  // Width and height of the picture of a plane, or a part of it. The server rounds up: at the right and bottom, a
  // pixel of a reduced picture may stand for fewer than step x step pixels.
  #sizeOf({ top = 0, left = 0, bottom, right, step }) {
    const [rows, columns] = planeShape(this.#orientation, this.#image.size);
    return [(right ?? columns) - left, (bottom ?? rows) - top].map((length) => Math.ceil(length / step));
  }

  // Where the picture of a plane, or a part of it, lies, in plane positions.
  #boxOf(plane) {
    const [pixelWidth, pixelHeight] = this.#pixelSize;
    const [width, height] = this.#sizeOf(plane).map((length) => length * plane.step);
    return {
      left: (plane.left ?? 0) * pixelWidth,
      top: (plane.top ?? 0) * pixelHeight,
      width: width * pixelWidth,
      height: height * pixelHeight,
    };
  }

  // Paint the canvases of both layers that match a selector: "" for the plane, ".detail" for the part. Without a
  // picture a canvas is hidden.
  #paint(selector, plane, content) {
    LAYERS.forEach((layer, index) => {
      const canvas = this.#find(`canvas.${layer}${selector}`);
      const picture = plane && content.pictures[index];
      canvas.hidden = !picture;
      if (canvas.hidden) return;
      const [width, height] = this.#sizeOf(plane);
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      for (const [property, value] of Object.entries(this.#boxOf(plane))) canvas.style[property] = `${value}px`;
      const context = canvas.getContext("2d");
      if (picture instanceof ImageData) context.putImageData(picture, 0, 0);
      else context.drawImage(picture, 0, 0);
      if (content.outside) drawTranslucent(context, content.outside, this.#session.veil);
      Object.assign(canvas.dataset, { view: this.#request.views[index], slice: plane.at, axis: plane.axis });
    });
  }

  // The canvas of the marks has the size of the viewport in device pixels.
  #renderMarks() {
    const canvas = this.#find(".hidden-marks");
    const density = devicePixelRatio;
    Object.assign(canvas, { width: density * canvas.clientWidth, height: density * canvas.clientHeight });
    if (canvas.width * canvas.height > 0)
      this.#drawMarks(canvas.getContext("2d"), { ...this.#viewport.transform, density });
  }

  // Draw the marks at a placement, see hidden_marks.js, on the sides of a swipe that show an overlay.
  #drawMarks(context, placement) {
    if (this.#hiddenParts.length === 0) return;
    this.#request.views.forEach((view, index) => {
      if (view !== "overlay") return;
      context.save();
      this.#clipToSide(context, placement, index);
      drawHiddenMarks(context, this.#hiddenParts, this.#request.markStyle, placement);
      const sharpest = this.#hiddenParts.at(-1);
      if (sharpest.borders) drawBorders(context, sharpest, this.#image.objects, placement);
      context.restore();
    });
  }

  // Clip to the left (0) or right (1) side of a swipe; without a swipe the left side is everything. The border is
  // known in the viewport, whose plane may have another offset than the placement.
  #clipToSide(context, { x, density }, sideIndex) {
    const { width, height } = context.canvas;
    const isSwiping = this.#request.views[1];
    const border = isSwiping ? density * (this.#viewport.borderX - this.#viewport.transform.x + x) : width;
    context.beginPath();
    context.rect(...(sideIndex === 0 ? [0, 0, border, height] : [border, 0, width - border, height]));
    context.clip();
  }

  /** Return a canvas of the visible plane, with marks and scale bar, at `density` pixels per screen pixel. */
  exportPicture(density) {
    const { scale } = this.#viewport.transform;
    const [left, top, right, bottom] = this.#viewport.visibleRect;
    const placement = { x: -left * scale, y: -top * scale, scale, density };
    const size = [right - left, bottom - top].map((length) => Math.max(1, Math.round(length * scale * density)));
    const context = new OffscreenCanvas(...size).getContext("2d");
    // as the classes "pixelated" and "smooth" have it on the screen
    context.imageSmoothingEnabled = scale <= 1 || $("#panes").classList.contains("smooth");
    LAYERS.forEach((layer, index) => {
      context.save();
      this.#clipToSide(context, placement, index);
      for (const canvas of this.#root.querySelectorAll(`canvas.${layer}:not([hidden])`)) {
        const { left, top, width, height } = canvas.style;
        const [x, y, w, h] = [left, top, width, height].map((length) => scale * parseFloat(length));
        context.drawImage(canvas, ...[placement.x + x, placement.y + y, w, h].map((value) => density * value));
      }
      context.restore();
    });
    this.#drawMarks(context, placement);
    const bar = this.#scaleBar();
    if (bar) drawScaleBar(context, bar, density);
    return context.canvas;
  }

  // A canvas is an image to assistive technology: its label says what it shows, of which image, in which slice.
  #renderLabels() {
    const { axis, name } = this.#orientation;
    const [index, sliceCount] = [this.#request.voxel[axis], this.#image.size[axis]];
    const sliceText = `${index + 1} of ${sliceCount}`;
    Object.assign(this.#find(".slice-control input"), { value: index, ariaValueText: sliceText });
    this.#find(".slice-control output").textContent = sliceText;
    const suffix = sliceCount > 1 ? `, ${name} slice ${sliceText}` : "";
    LAYERS.forEach((layer, side) => {
      const view = this.#request.views[side];
      if (view) this.#find(`canvas.${layer}`).ariaLabel = `${this.#image.titles[view]} of ${this.#image.name}${suffix}`;
    });
  }

  // Whatever lies over the plane, at sizes that do not zoom, follows it; then the detail, once the zoom rests.
  #handleTransform() {
    if (!this.#request) return;
    this.#renderCrosshair();
    this.#renderScaleBar();
    this.#renderMarks();
    this.#callbacks.onTransform();
    if (this.#orientation.step === 1) return; // the whole plane is there in full
    clearTimeout(this.#detailTimer);
    this.#detailTimer = setTimeout(() => this.#updateDetail(), DETAIL_DELAY);
  }

  // Through the middle of the pixel.
  #renderCrosshair() {
    const [row, column] = voxelToPixel(this.#orientation, this.#image.size, this.#request.voxel);
    const middle = [(column + 0.5) * this.#pixelSize[0], (row + 0.5) * this.#pixelSize[1]];
    const [x, y] = this.#viewport.toViewport(middle);
    for (const line of this.#root.querySelectorAll(".crosshair")) line.hidden = !this.#isVolume;
    this.#find(".crosshair.vertical").style.left = `${x}px`;
    this.#find(".crosshair.horizontal").style.top = `${y}px`;
  }

  #renderScaleBar() {
    const bar = this.#scaleBar();
    this.#find(".scale-bar").hidden = bar === null;
    if (bar === null) return;
    this.#find(".scale-bar i").style.width = `${bar.width}px`;
    this.#find(".scale-bar span").textContent = bar.text;
  }

  // At most a third of the visible plane; null where the size of a pixel is unknown.
  #scaleBar() {
    const { steps: spacing, unit } = this.#image;
    if (unit === null) return null;
    const [left, , right] = this.#viewport.visibleRect;
    const maxWidth = Math.min(MAX_BAR_WIDTH, (this.scale * (right - left)) / 3);
    return scaleBar(spacing[this.#orientation.right.axis], unit, this.scale * this.#pixelSize[0], maxWidth);
  }

  #updateDetail() {
    const part = this.#visibleDetail();
    if (JSON.stringify(part) === JSON.stringify(this.#detailPart)) return;
    this.#detailPart = part;
    this.draw(this.#request).catch(() => {});
  }

  // The visible part of the plane at the smallest reduction that the screen can resolve; null where the reduced plane
  // is as good, or where the part is too large. Its edges are multiples of the reduction, rounded outwards, so that
  // its pixels lie on those of the plane.
  #visibleDetail() {
    const step = Math.max(1, Math.floor(1 / this.scale));
    const [rows, columns] = planeShape(this.#orientation, this.#image.size);
    const [left, top, right, bottom] = this.#viewport.visibleRect.map(
      (edge, index) => edge / this.#pixelSize[index % 2] / step,
    );
    const part = {
      top: step * Math.floor(top),
      bottom: Math.min(rows, step * Math.ceil(bottom)),
      left: step * Math.floor(left),
      right: Math.min(columns, step * Math.ceil(right)),
      step,
    };
    const pixels = (part.bottom - part.top) * (part.right - part.left);
    return step < this.#orientation.step && pixels > 0 && pixels <= MAX_DETAIL_PIXELS ? part : null;
  }

  #voxelAt([x, y]) {
    const pixel = [Math.floor(y / this.#pixelSize[1]), Math.floor(x / this.#pixelSize[0])];
    return pixelToVoxel(this.#orientation, this.#image.size, this.#request.voxel, pixel);
  }
}

function drawTranslucent(context, picture, opacity) {
  context.globalAlpha = opacity;
  context.drawImage(picture, 0, 0);
  context.globalAlpha = 1;
}
