// Cache of what the server sent of one image: scores and pictures of its planes.

import * as api from "./api.js";

const MAX_BYTES = 2 ** 28; // roughly: 4 bytes per pixel of the largest plane are counted
const MIN_ENTRIES = 10; // all views of a plane, whatever its size

/** The planes of an image that were used last; each is requested from the server once. */
export class PlaneCache {
  #imageName;
  #maxEntries;
  #entries = new Map(); // promises by request, the one used longest ago first

  constructor(imageName, pixelsPerPlane) {
    this.#imageName = imageName;
    this.#maxEntries = Math.max(MIN_ENTRIES, Math.floor(MAX_BYTES / (4 * pixelsPerPlane)));
  }

  /** Return "score" or "labels" of a plane. */
  values(kind, plane) {
    return this.#cached(kind, plane, () => api.fetchPlane(this.#imageName, kind, plane));
  }

  /** Return a picture of a plane: "input", "output" or "truth" with display options, "error" or "map" without. */
  picture(view, plane, displayOptions) {
    const query = ["error", "map"].includes(view) ? plane : { ...plane, ...displayOptions };
    return this.#cached(view, query, () => api.fetchPicture(this.#imageName, view, query));
  }

  /** Return a picture of a plane that is opaque outside the region that the promise is about. */
  outside(plane) {
    return this.#cached("outside", plane, () => api.fetchPicture(this.#imageName, "outside", plane));
  }

  // Promises are cached, not results, so that two panes that need the same plane share one request.
  #cached(kind, query, load) {
    const key = JSON.stringify([kind, query]);
    const promise = this.#entries.get(key) ?? load();
    this.#entries.delete(key); // a Map keeps the order of insertion: the entry moves to the end
    this.#entries.set(key, promise);
    if (this.#entries.size > this.#maxEntries) this.#entries.delete(this.#entries.keys().next().value);
    promise.catch(() => this.#entries.delete(key)); // a failed request is made again
    return promise;
  }
}
