// Planes of one image as the server sends them; those used last are kept.

import * as api from "./api.js";

const KEPT = 2 ** 28; // bytes, about
const FEWEST = 10; // every view of a plane

export class Planes {
  #name;
  #most;
  #kept = new Map();

  constructor(name, pixels) {
    this.#name = name;
    this.#most = Math.max(FEWEST, Math.floor(KEPT / (4 * pixels)));
  }

  score(plane) {
    return this.#once(["score", plane], () => api.score(this.#name, plane));
  }

  // input, output or truth in tones, { low, high, colors } as far as they are chosen; or error.
  picture(what, plane, tones) {
    const asked = what === "error" ? plane : { ...plane, ...tones };
    return this.#once([what, asked], () => api.picture(this.#name, what, asked));
  }

  // Opaque outside the region that the promise is about.
  outside(plane) {
    return this.#once(["outside", plane], () => api.picture(this.#name, "outside", plane));
  }

  #once(what, ask) {
    const key = JSON.stringify(what);
    const kept = this.#kept.get(key) ?? ask();
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    if (this.#kept.size > this.#most) this.#kept.delete(this.#kept.keys().next().value);
    kept.catch(() => this.#kept.delete(key));
    return kept;
  }
}
