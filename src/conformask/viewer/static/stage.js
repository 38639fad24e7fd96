// Zoom, pan, and the border of the swipe comparison. Everything is done by CSS on two canvases.

const STEP = 1.25;
const LARGEST = 64; // screen pixels an image pixel
const by = (id) => document.querySelector(id);

export class Stage {
  #stage = by("#stage");
  #plane = by("#plane");
  #handle = by("#handle");
  #size = [1, 1];
  #scale = 1;
  #at = [0, 0];
  #border = 0.5;
  #swiping = false;
  #pointers = new Map();

  constructor() {
    new ResizeObserver(() => this.fit()).observe(this.#stage);
    this.#stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), this.#inside(event));
    }, { passive: false });
    this.#stage.addEventListener("dblclick", (event) => this.zoom(2, this.#inside(event)));
    for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel"])
      this.#stage.addEventListener(kind, (event) => this.#drag(event));
    this.#handle.addEventListener("keydown", (event) => this.#key(event));
    by("#in").addEventListener("click", () => this.zoom(STEP));
    by("#out").addEventListener("click", () => this.zoom(1 / STEP));
    by("#fit").addEventListener("click", () => this.fit());
  }

  // Another image; the zoom is kept where its size is the same.
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
    this.#place();
  }

  fit() {
    this.#scale = this.#fitting();
    this.#place();
  }

  zoom(factor, [x, y] = [this.#stage.clientWidth / 2, this.#stage.clientHeight / 2]) {
    const least = Math.min(this.#fitting(), 1);
    const scale = Math.min(Math.max(this.#scale * factor, least), Math.max(LARGEST, least));
    const ratio = scale / this.#scale;
    this.#at = [x - ratio * (x - this.#at[0]), y - ratio * (y - this.#at[1])];
    this.#scale = scale;
    this.#place();
  }

  #fitting() {
    const [width, height] = this.#size;
    return Math.min(this.#stage.clientWidth / width, this.#stage.clientHeight / height) || 1;
  }

  #inside(event) {
    const box = this.#stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
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
    by("#fit").textContent = `${Math.round(100 * this.#scale)} %`;
    const border = this.#border * room[0];
    const beyond = Math.max(0, this.#size[0] - (border - x) / this.#scale);
    by("#front").style.clipPath = this.#swiping ? `inset(0 ${beyond}px 0 0)` : "";
    this.#handle.style.left = `${border}px`;
    this.#handle.setAttribute("aria-valuenow", Math.round(100 * this.#border));
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

  // One pointer pans or drags the border, two zoom.
  #drag(event) {
    const known = this.#pointers.get(event.pointerId);
    const now = this.#inside(event);
    if (event.target.closest("select")) return;
    if (event.type === "pointerdown") {
      this.#stage.setPointerCapture(event.pointerId);
      this.#pointers.set(event.pointerId, { at: now, border: event.target === this.#handle });
    } else if (event.type !== "pointermove") {
      this.#pointers.delete(event.pointerId);
    } else if (known) {
      if (this.#pointers.size === 2) this.#pinch(event.pointerId, now);
      else if (known.border) this.#move(now[0] / this.#stage.clientWidth);
      else this.#pan(now[0] - known.at[0], now[1] - known.at[1]);
      known.at = now;
    }
  }

  #pan(right, down) {
    this.#at = [this.#at[0] + right, this.#at[1] + down];
    this.#place();
  }

  #pinch(id, now) {
    const before = this.#pointers.get(id).at;
    const [other] = [...this.#pointers].filter(([key]) => key !== id).map(([, pointer]) => pointer.at);
    const apart = (at) => Math.hypot(at[0] - other[0], at[1] - other[1]) || 1;
    this.zoom(apart(now) / apart(before), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
  }
}
