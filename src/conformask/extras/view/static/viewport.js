// Viewport of a plane: zoom, pan, and the border of the swipe comparison, all by CSS, without drawing again.
//
// Positions are [x, y] from an upper left corner. Viewport positions are screen (CSS) pixels inside the viewport; plane
// positions are those of the .plane element before its CSS transform: viewport = offset + scale * plane.

const MAX_SCALE = 64;
const CLICK_TOLERANCE = 4; // screen pixels that a click may move
const WHEEL_NOTCH = 50; // pixels of scrolling that count as one slice; also the height of a line of scrolling
const WHEEL_ZOOM_LENGTH = 400; // pixels of scrolling that zoom by a factor of e
const HANDLE_STEPS = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 };

/** A viewport, which reports clicks, hovering and drags in plane positions and leaves their meaning to its owner. */
export class Viewport {
  /** Function of a number of slices that the wheel moves by; null where the wheel zooms. */
  onSliceStep = null;
  #root;
  #plane;
  #frontLayer;
  #swipeHandle;
  #callbacks;
  #planeSize = [1, 1]; // width and height
  #scale = 1;
  #offset = [0, 0];
  #isFitted = true; // until the user zooms
  #isSwiping = false;
  #borderShare = 0.5; // of the viewport's width
  #scrolled = 0; // pixels of scrolling that have not moved a slice yet
  #pointers = new Map(); // those that are pressed, by pointer id
  #hoverPosition = null; // in the viewport; null where no pointer hovers

  // callbacks: onTransform(), onClick(position), onHover(position or null), onWindowDrag(right, down).
  constructor(root, callbacks) {
    this.#root = root;
    this.#plane = root.querySelector(".plane");
    this.#frontLayer = root.querySelector(".front-layer");
    this.#swipeHandle = root.querySelector(".swipe-handle");
    this.#callbacks = callbacks;
    new ResizeObserver(() => (this.#isFitted ? this.fit() : this.#applyTransform())).observe(root);
    root.addEventListener("wheel", (event) => this.#handleWheel(event), { passive: false });
    root.addEventListener("dblclick", (event) => this.zoom(2, this.#positionOf(event)));
    root.addEventListener("contextmenu", (event) => event.preventDefault()); // the right button drags the contrast
    root.addEventListener("pointerleave", () => {
      this.#hoverPosition = null;
      callbacks.onHover(null);
    });
    for (const type of ["pointerdown", "pointermove", "pointerup", "pointercancel"])
      root.addEventListener(type, (event) => this.#handlePointer(event));
    this.#swipeHandle.addEventListener("keydown", (event) => this.#moveBorderByKey(event));
  }

  /** Take another plane; the zoom is kept where its size is the same. */
  setPlaneSize(width, height) {
    const isSame = this.#planeSize[0] === width && this.#planeSize[1] === height;
    this.#planeSize = [width, height];
    this.#plane.style.width = `${width}px`;
    this.#plane.style.height = `${height}px`;
    if (!isSame) this.fit();
  }

  /** Turn the swipe comparison on or off. */
  setSwiping(isSwiping) {
    this.#isSwiping = isSwiping;
    this.#swipeHandle.hidden = !isSwiping;
    this.#root.classList.toggle("swiping", isSwiping);
    this.#applyTransform();
  }

  /** Zoom so that the plane just fits into the viewport. */
  fit() {
    this.#isFitted = true;
    this.#scale = this.#fittingScale();
    this.#applyTransform();
  }

  /** Zoom by a factor, around a viewport position, which stays where it is. */
  zoom(factor, [x, y] = [this.#root.clientWidth / 2, this.#root.clientHeight / 2]) {
    const minScale = Math.min(this.#fittingScale(), 1);
    const scale = Math.min(Math.max(this.#scale * factor, minScale), Math.max(MAX_SCALE, minScale));
    const ratio = scale / this.#scale;
    this.#offset = [x - ratio * (x - this.#offset[0]), y - ratio * (y - this.#offset[1])];
    this.#scale = scale;
    this.#isFitted = false;
    this.#applyTransform();
  }

  /** The plane position under the pointer; null outside the plane. */
  get hoveredPosition() {
    return this.#hoverPosition && this.#toPlane(this.#hoverPosition);
  }

  /** The offset and scale of the plane in the viewport, as { x, y, scale }. */
  get transform() {
    return { x: this.#offset[0], y: this.#offset[1], scale: this.#scale };
  }

  /** The border of the swipe comparison, as a viewport position x. */
  get borderX() {
    return this.#borderShare * this.#root.clientWidth;
  }

  /** The part of the plane that is visible, as plane positions [left, top, right, bottom]. */
  get visibleRect() {
    const [x, y] = this.#offset;
    const edges = [-x, -y, this.#root.clientWidth - x, this.#root.clientHeight - y].map((edge) => edge / this.#scale);
    return edges.map((edge, index) => Math.min(Math.max(edge, 0), this.#planeSize[index % 2]));
  }

  /** Return the viewport position of a plane position. */
  toViewport([x, y]) {
    return [this.#offset[0] + x * this.#scale, this.#offset[1] + y * this.#scale];
  }

  // Null outside the plane.
  #toPlane([x, y]) {
    const position = [(x - this.#offset[0]) / this.#scale, (y - this.#offset[1]) / this.#scale];
    return position.every((value, axis) => value >= 0 && value < this.#planeSize[axis]) ? position : null;
  }

  #positionOf(event) {
    const box = this.#root.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  // A viewport that is not laid out yet has no size: 1 then, since 0 could not be divided by.
  #fittingScale() {
    const [width, height] = this.#planeSize;
    return Math.min(this.#root.clientWidth / width, this.#root.clientHeight / height) || 1;
  }

  // Along each axis, a plane that fits is centred, and a larger one covers the viewport from edge to edge.
  #constrainOffset() {
    const viewportSize = [this.#root.clientWidth, this.#root.clientHeight];
    this.#offset = this.#offset.map((offset, axis) => {
      const room = viewportSize[axis] - this.#planeSize[axis] * this.#scale;
      return room >= 0 ? room / 2 : Math.min(0, Math.max(room, offset));
    });
  }

  #applyTransform() {
    this.#constrainOffset();
    const [x, y] = this.#offset;
    this.#plane.style.transform = `translate(${x}px, ${y}px) scale(${this.#scale})`;
    this.#plane.classList.toggle("pixelated", this.#scale > 1); // enlarged pixels are shown as squares
    // The front layer is clipped to the right of the border, in plane positions, as clip-path comes before transform.
    const clipped = Math.max(0, this.#planeSize[0] - (this.borderX - x) / this.#scale);
    this.#frontLayer.style.clipPath = this.#isSwiping ? `inset(0 ${clipped}px 0 0)` : "";
    this.#swipeHandle.style.left = `${this.borderX}px`;
    this.#swipeHandle.setAttribute("aria-valuenow", Math.round(100 * this.#borderShare));
    this.#callbacks.onTransform();
  }

  #moveBorder(share) {
    this.#borderShare = Math.min(1, Math.max(0, share));
    this.#applyTransform();
  }

  #moveBorderByKey(event) {
    const step = HANDLE_STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation(); // else the shortcuts of the page would show another image
    this.#moveBorder(this.#borderShare + step);
  }

  // The wheel moves through the slices of a volume; with Ctrl, or in an image of one plane, it zooms.
  #handleWheel(event) {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? WHEEL_NOTCH : 1);
    if (!this.onSliceStep || event.ctrlKey || event.metaKey) {
      this.zoom(Math.exp(-pixels / WHEEL_ZOOM_LENGTH), this.#positionOf(event));
      return;
    }
    // The small steps of a trackpad add up until they make a slice; a change of direction starts again.
    this.#scrolled = Math.sign(pixels) === Math.sign(this.#scrolled) ? this.#scrolled + pixels : pixels;
    if (Math.abs(this.#scrolled) < WHEEL_NOTCH) return;
    this.onSliceStep(-Math.sign(this.#scrolled));
    this.#scrolled = 0;
  }

  // One pointer pans, drags the border or, with the right button, the contrast; two pointers zoom.
  #handlePointer(event) {
    if (event.target.closest("select, button")) return;
    const pointer = this.#pointers.get(event.pointerId);
    const position = this.#positionOf(event);
    if (event.type === "pointerdown") {
      this.#root.setPointerCapture(event.pointerId);
      const action = event.target === this.#swipeHandle ? "border" : event.button === 2 ? "contrast" : "pan";
      const isClick = this.#pointers.size === 0; // until it moves, or a second pointer comes
      this.#pointers.set(event.pointerId, { action, isClick, position, startPosition: position });
    } else if (event.type !== "pointermove") {
      this.#pointers.delete(event.pointerId);
      if (pointer?.isClick && pointer.action === "pan" && event.type === "pointerup") this.#click(position);
    } else if (pointer) {
      this.#drag(event.pointerId, pointer, position);
    } else {
      this.#hoverPosition = position;
      this.#callbacks.onHover(this.hoveredPosition);
    }
  }

  #drag(id, pointer, position) {
    const { action, startPosition, position: lastPosition } = pointer;
    const distance = Math.hypot(position[0] - startPosition[0], position[1] - startPosition[1]);
    pointer.isClick &&= distance <= CLICK_TOLERANCE;
    const [right, down] = [position[0] - lastPosition[0], position[1] - lastPosition[1]];
    if (this.#pointers.size === 2) this.#pinch(id, position);
    else if (action === "border") this.#moveBorder(position[0] / this.#root.clientWidth);
    else if (action === "contrast") this.#callbacks.onWindowDrag(right, down);
    else if (!pointer.isClick) this.#pan(right, down);
    // While it may still be a click, the position waits at its start, so that the pan begins there.
    if (!pointer.isClick || action !== "pan") pointer.position = position;
  }

  #click(position) {
    const planePosition = this.#toPlane(position);
    if (planePosition) this.#callbacks.onClick(planePosition);
  }

  #pan(right, down) {
    this.#offset = [this.#offset[0] + right, this.#offset[1] + down];
    this.#applyTransform();
  }

  // Zoom by the change of the distance between two pointers, around their middle.
  #pinch(movedId, position) {
    for (const pointer of this.#pointers.values()) pointer.isClick = false;
    const lastPosition = this.#pointers.get(movedId).position;
    const [other] = [...this.#pointers].filter(([id]) => id !== movedId).map(([, pointer]) => pointer.position);
    const distanceTo = ([x, y]) => Math.hypot(x - other[0], y - other[1]) || 1;
    const middle = [(position[0] + other[0]) / 2, (position[1] + other[1]) / 2];
    this.zoom(distanceTo(position) / distanceTo(lastPosition), middle);
  }
}
