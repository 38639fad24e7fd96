// Zoom, pan, and the border of the swipe comparison, by CSS; and where on the plane the pointer is.

const LARGEST = 64; // screen pixels an image pixel
const STILL = 4; // screen pixels a click may move
const NOTCH = 50; // of a wheel, in pixels of scrolling

export class Stage {
  #stage;
  #plane;
  #fronts;
  #handle;
  acts;
  #size = [1, 1];
  #scale = 1;
  #fitted = true; // until one zooms
  #at = [0, 0];
  #border = 0.5;
  #swiping = false;
  #turned = 0;
  #pointers = new Map();
  #pointer = null; // where the mouse is

  // acts: placed(), click(point), hover(point or null), turn(steps) or null, drag(right, down).
  constructor(root, acts) {
    this.#stage = root;
    this.#plane = root.querySelector(".plane");
    this.#fronts = root.querySelector(".side.over");
    this.#handle = root.querySelector(".handle");
    this.acts = acts;
    new ResizeObserver(() => (this.#fitted ? this.fit() : this.#place())).observe(root);
    root.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    root.addEventListener("dblclick", (event) => this.zoom(2, this.#inside(event)));
    root.addEventListener("contextmenu", (event) => event.preventDefault());
    root.addEventListener("pointerleave", () => {
      this.#pointer = null;
      acts.hover(null);
    });
    for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel"])
      root.addEventListener(kind, (event) => this.#drag(event));
    this.#handle.addEventListener("keydown", (event) => this.#key(event));
  }

  // Another plane, as wide and high as its pixels are; the zoom is kept where its size is the same.
  hold(width, height) {
    const same = this.#size[0] === width && this.#size[1] === height;
    this.#size = [width, height];
    this.#plane.style.width = `${width}px`;
    this.#plane.style.height = `${height}px`;
    if (!same) this.fit();
  }

  swipe(on) {
    this.#swiping = on;
    this.#handle.hidden = !on;
    this.#stage.classList.toggle("swiping", on);
    this.#place();
  }

  fit() {
    this.#fitted = true;
    this.#scale = this.#fitting();
    this.#place();
  }

  zoom(factor, [x, y] = [this.#stage.clientWidth / 2, this.#stage.clientHeight / 2]) {
    const least = Math.min(this.#fitting(), 1);
    const scale = Math.min(Math.max(this.#scale * factor, least), Math.max(LARGEST, least));
    const ratio = scale / this.#scale;
    this.#at = [x - ratio * (x - this.#at[0]), y - ratio * (y - this.#at[1])];
    this.#scale = scale;
    this.#fitted = false;
    this.#place();
  }

  // The point of the plane under the mouse; null beside it.
  get pointed() {
    return this.#pointer && this.#under(this.#pointer);
  }

  get scale() {
    return this.#scale;
  }

  // Where the plane is on the stage.
  get place() {
    return { x: this.#at[0], y: this.#at[1], scale: this.#scale };
  }

  // The border of a swipe on the stage.
  get border() {
    return this.#border * this.#stage.clientWidth;
  }

  // What of the plane is in sight: left, top, right, bottom.
  get sight() {
    const [x, y] = this.#at;
    const ends = [-x, -y, this.#stage.clientWidth - x, this.#stage.clientHeight - y].map((end) => end / this.#scale);
    return ends.map((end, side) => Math.min(Math.max(end, 0), this.#size[side % 2]));
  }

  // A point of the plane on the stage.
  onStage([x, y]) {
    return [this.#at[0] + x * this.#scale, this.#at[1] + y * this.#scale];
  }

  #fitting() {
    const [width, height] = this.#size;
    return Math.min(this.#stage.clientWidth / width, this.#stage.clientHeight / height) || 1;
  }

  #inside(event) {
    const box = this.#stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  // The point of the plane under a point of the stage; null beside it.
  #under([x, y]) {
    const point = [(x - this.#at[0]) / this.#scale, (y - this.#at[1]) / this.#scale];
    return point.every((at, side) => at >= 0 && at < this.#size[side]) ? point : null;
  }

  // Keep the image in sight, then say it in CSS.
  #place() {
    const room = [this.#stage.clientWidth, this.#stage.clientHeight];
    this.#at = this.#at.map((at, axis) => {
      const side = this.#size[axis] * this.#scale;
      return side <= room[axis] ? (room[axis] - side) / 2 : Math.min(0, Math.max(room[axis] - side, at));
    });
    const [x, y] = this.#at;
    this.#plane.style.transform = `translate(${x}px, ${y}px) scale(${this.#scale})`;
    this.#plane.classList.toggle("pixelated", this.#scale > 1);
    const { border } = this;
    const beyond = Math.max(0, this.#size[0] - (border - x) / this.#scale);
    this.#fronts.style.clipPath = this.#swiping ? `inset(0 ${beyond}px 0 0)` : "";
    this.#handle.style.left = `${border}px`;
    this.#handle.setAttribute("aria-valuenow", Math.round(100 * this.#border));
    this.acts.placed();
  }

  #move(border) {
    this.#border = Math.min(1, Math.max(0, border));
    this.#place();
  }

  #key(event) {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    this.#move(this.#border + step);
  }

  // Turn the pages of a volume, with Ctrl or a plane image zoom; a trackpad's small steps add up.
  #wheel(event) {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === 1 ? NOTCH : 1);
    if (!this.acts.turn || event.ctrlKey || event.metaKey) {
      this.zoom(Math.exp(-pixels / 400), this.#inside(event));
      return;
    }
    this.#turned = Math.sign(pixels) === Math.sign(this.#turned) ? this.#turned + pixels : pixels;
    if (Math.abs(this.#turned) < NOTCH) return;
    this.acts.turn(-Math.sign(this.#turned));
    this.#turned = 0;
  }

  // One pointer pans or drags the border, with the right button the contrast; two zoom.
  #drag(event) {
    const known = this.#pointers.get(event.pointerId);
    const now = this.#inside(event);
    if (event.target.closest("select, button")) return;
    if (event.type === "pointerdown") {
      this.#stage.setPointerCapture(event.pointerId);
      const does = event.target === this.#handle ? "border" : event.button === 2 ? "contrast" : "pan";
      this.#pointers.set(event.pointerId, { at: now, from: now, does, still: this.#pointers.size === 0 });
    } else if (event.type !== "pointermove") {
      this.#pointers.delete(event.pointerId);
      if (known?.still && known.does === "pan" && event.type === "pointerup") this.#click(now);
    } else if (known) {
      known.still &&= Math.hypot(now[0] - known.from[0], now[1] - known.from[1]) <= STILL;
      const [right, down] = [now[0] - known.at[0], now[1] - known.at[1]];
      if (this.#pointers.size === 2) this.#pinch(event.pointerId, now);
      else if (known.does === "border") this.#move(now[0] / this.#stage.clientWidth);
      else if (known.does === "contrast") this.acts.drag(right, down);
      else if (!known.still) this.#pan(right, down);
      if (!known.still || known.does !== "pan") known.at = now;
    } else {
      this.#pointer = now;
      this.acts.hover(this.pointed);
    }
  }

  #click(now) {
    const point = this.#under(now);
    if (point) this.acts.click(point);
  }

  #pan(right, down) {
    this.#at = [this.#at[0] + right, this.#at[1] + down];
    this.#place();
  }

  #pinch(id, now) {
    for (const pointer of this.#pointers.values()) pointer.still = false;
    const before = this.#pointers.get(id).at;
    const [other] = [...this.#pointers].filter(([key]) => key !== id).map(([, pointer]) => pointer.at);
    const apart = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]) || 1;
    this.zoom(apart(now) / apart(before), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
  }
}
