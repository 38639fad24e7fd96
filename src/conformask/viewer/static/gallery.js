// All images: search, sorting by mask size, thumbnails as they get ready.

import * as api from "./api.js";
import { showPromise } from "./promise.js";
import { write } from "./state.js";

const LOOK_AGAIN = 700; // milliseconds
const grid = document.querySelector("#grid");
const search = document.querySelector("#search");
const sort = document.querySelector("#sort");
const beyond = document.querySelector("#beyond");
const count = document.querySelector("#count");

export const BEYOND = "✗ beyond the threshold";
export const percent = (share) => `${(100 * share).toFixed(1)} %`;
const by = (fact, sign) => (a, b) => (a[fact] === null) - (b[fact] === null) || sign * (a[fact] - b[fact]);
const ORDERS = { name: () => 0, largest: by("size", -1), smallest: by("size", 1), loss: by("loss", -1) };

export class Gallery {
  entries = [];
  #cards = new Map();
  #state = { search: "", sort: "name", beyond: false };

  constructor(change) {
    search.addEventListener("input", () => change({ search: search.value }));
    sort.addEventListener("change", () => change({ sort: sort.value }));
    beyond.addEventListener("change", () => change({ beyond: beyond.checked }));
  }

  // Ask for the entries until every mask size is known.
  async refresh() {
    const told = await api.gallery();
    this.entries = told.images;
    showPromise(document.querySelector("#gallery-promise"), told.promised, told.measured);
    this.#draw();
    const open = this.entries.some((entry) => entry.size === null && entry.error === null);
    if (open) setTimeout(() => this.refresh().catch(() => {}), LOOK_AGAIN);
  }

  show(state) {
    this.#state = state;
    if (search.value !== state.search) search.value = state.search;
    sort.value = state.sort;
    beyond.checked = state.beyond;
    this.#draw();
  }

  // The names in the order shown.
  names() {
    const wanted = this.#state.search.toLowerCase();
    const named = this.entries.filter((entry) => entry.name.toLowerCase().includes(wanted));
    const found = this.#state.beyond ? named.filter((entry) => entry.met === false) : named;
    return found.sort(ORDERS[this.#state.sort]).map((entry) => entry.name);
  }

  #draw() {
    const truth = this.entries.some((entry) => entry.truth);
    for (const element of document.querySelectorAll(".measurable")) element.hidden = !truth;
    const entries = new Map(this.entries.map((entry) => [entry.name, entry]));
    const names = this.names();
    const cards = names.map((name) => this.#card(entries.get(name)));
    const same = cards.length === grid.children.length && cards.every((card, at) => grid.children[at] === card);
    if (!same) grid.replaceChildren(...cards);
    const ready = this.entries.filter((entry) => entry.size !== null || entry.error !== null).length;
    const looking = ready < this.entries.length ? ` · mask sizes of ${ready} so far` : "";
    const shown = names.length === this.entries.length ? `${names.length}` : `${names.length} of ${this.entries.length}`;
    count.textContent = `${shown} images${looking}`;
  }

  #card(entry) {
    let card = this.#cards.get(entry.name);
    if (!card) {
      card = document.createElement("li");
      card.innerHTML =
        '<a><span class="frame"></span><span class="label"></span><span class="measure"><i></i></span>' +
        '<span class="size"></span></a>';
      card.querySelector("a").href = write({ name: entry.name });
      card.querySelector(".label").textContent = entry.name;
      card.querySelector(".label").title = entry.name;
      this.#cards.set(entry.name, card);
    }
    if (card.dataset.known !== `${entry.size}${entry.error}`) this.#fill(card, entry);
    return card;
  }

  #fill(card, entry) {
    card.dataset.known = `${entry.size}${entry.error}`;
    const text = card.querySelector(".size");
    if (entry.size === null) {
      text.textContent = entry.error || "…";
      card.classList.toggle("broken", entry.error !== null);
      return;
    }
    const picture = new Image();
    picture.loading = "lazy";
    picture.alt = "";
    picture.src = api.address(entry.name, "thumbnail.jpg");
    card.querySelector(".frame").replaceChildren(picture);
    card.querySelector(".measure i").style.width = `${100 * entry.size}%`;
    text.textContent = `${percent(entry.size)} hidden${entry.uploaded ? " · uploaded" : ""}`;
    if (entry.met === false) text.append(Object.assign(document.createElement("b"), { textContent: BEYOND }));
  }
}
