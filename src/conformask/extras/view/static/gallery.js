// Gallery of all images: search, sorting by mask size or loss, and thumbnails as they become ready.

import * as api from "./api.js";
import { $, createElement } from "./dom.js";
import { formatPercent } from "./format.js";
import { BEYOND_THRESHOLD, releaseText, renderPromise } from "./promise.js";
import { hashFromState } from "./state.js";

const REFRESH_INTERVAL = 700; // milliseconds

const grid = $("#image-grid");
const searchField = $("#search");
const sortSelect = $("#sort");
const beyondCheckbox = $("#beyond-only");
const heldBackCheckbox = $("#held-back-only");
const partFilter = $("#part-filter");

const MEASURED = "measured"; // images that no part before the test has used
const ALL = "all";

// Entries whose value is unknown come last in either order.
const compareBy = (key, sign) => (a, b) => (a[key] === null) - (b[key] === null) || sign * (a[key] - b[key]);
const COMPARATORS = {
  name: () => 0, // the order of the server
  largest: compareBy("size", -1),
  smallest: compareBy("size", 1),
  loss: compareBy("loss", -1),
};

// The server opens images in the background: until then an entry has neither a mask size nor an error.
const isReady = (entry) => entry.size !== null || entry.error !== null;

/** The gallery, which fetches its entries and shows those that match the search of a state. */
export class Gallery {
  #entries = [];
  #cards = new Map(); // elements by image name, kept so that thumbnails are not loaded again
  #whereHidden; // such as " of the nuclei", what a hidden share is a share of; "" for the image
  #state = { search: "", part: null, sort: "largest", beyond: false, held: false };

  #onRefresh;

  constructor(session, updateState, onRefresh) {
    this.#whereHidden = session.where_hidden;
    this.#onRefresh = onRefresh;
    searchField.addEventListener("input", () => updateState({ search: searchField.value }));
    sortSelect.addEventListener("change", () => updateState({ sort: sortSelect.value }));
    beyondCheckbox.addEventListener("change", () => updateState({ beyond: beyondCheckbox.checked }));
    heldBackCheckbox.addEventListener("change", () => updateState({ held: heldBackCheckbox.checked }));
    $("#toggle-promise").addEventListener("click", ({ target }) => (target.ariaExpanded = target.ariaExpanded !== "true"));
    partFilter.addEventListener("change", () =>
      updateState({ part: partFilter.value === this.#defaultPart ? null : partFilter.value }));
  }

  /** Fetch the entries, and again at intervals until each has a mask size or an error. */
  async refresh() {
    const { images, promised, measured, release } = await api.fetchGallery();
    this.#entries = images;
    this.#renderParts();
    renderPromise($("#gallery-promise"), promised, measured, release);
    $("#held-back-label").hidden = heldBackCheckbox.disabled = release === null;
    this.#renderGrid();
    this.#onRefresh();
    if (!this.#entries.every(isReady)) setTimeout(() => this.refresh().catch(() => {}), REFRESH_INTERVAL);
  }

  /** Show the search and the order of a state. */
  render(state) {
    this.#state = state;
    if (searchField.value !== state.search) searchField.value = state.search; // else the caret would jump
    sortSelect.value = state.sort;
    beyondCheckbox.checked = state.beyond;
    heldBackCheckbox.checked = state.held;
    partFilter.value = state.part ?? this.#defaultPart;
    this.#renderGrid();
  }

  /** Return the names of the images that match the search, in the order shown. */
  names() {
    return this.#matchingEntries().map((entry) => entry.name);
  }

  #matchingEntries() {
    const { search, beyond, sort } = this.#state;
    const held = this.#state.held && !heldBackCheckbox.disabled;
    const text = search.toLowerCase();
    const part = this.#state.part ?? this.#defaultPart;
    const isInPart = (entry) => part === ALL || (entry.part ?? MEASURED) === part;
    return this.#entries
      .filter((entry) => isInPart(entry) && entry.name.toLowerCase().includes(text))
      .filter((entry) => (!beyond || entry.met === false) && (!held || entry.released === false))
      .sort(COMPARATORS[sort]);
  }

  // What is measured is shown first, if there is any; else all.
  get #defaultPart() {
    return this.#entries.some((entry) => entry.part === null) ? MEASURED : ALL;
  }

  #renderParts() {
    const used = new Set(this.#entries.map((entry) => entry.part).filter(Boolean));
    $("#part-label").hidden = used.size === 0;
    const parts = [...(this.#defaultPart === MEASURED ? [MEASURED] : []), ...used, ALL];
    const titles = { [MEASURED]: "test" };
    const shown = [...partFilter.options].map((option) => option.value);
    if (parts.join() === shown.join()) return; // replaced options would close the list that somebody opened
    partFilter.replaceChildren(...parts.map((part) => new Option(titles[part] ?? part, part)));
    partFilter.value = this.#state.part ?? this.#defaultPart;
  }

  #renderGrid() {
    const hasTruth = this.#entries.some((entry) => entry.truth);
    for (const element of document.querySelectorAll(".needs-truth")) element.hidden = !hasTruth;
    const cards = this.#matchingEntries().map((entry) => this.#card(entry));
    // Replacing the same cards would take the focus from the one that has it.
    const shown = [...grid.children];
    const isSame = cards.length === shown.length && cards.every((card, index) => card === shown[index]);
    if (!isSame) grid.replaceChildren(...cards);
    const total = this.#entries.length;
    const readyCount = this.#entries.filter(isReady).length;
    const progress = readyCount < total ? ` · masks of ${readyCount} so far` : "";
    const count = cards.length === total ? `${total}` : `${cards.length} of ${total}`;
    $("#image-count").textContent = `${count} images${progress}`;
  }

  #card(entry) {
    let card = this.#cards.get(entry.name);
    if (!card) {
      card = createCard(entry.name);
      this.#cards.set(entry.name, card);
    }
    const content = `${entry.size}${entry.error}${entry.released}`;
    if (card.dataset.content !== content) fillCard(card, entry, this.#whereHidden);
    card.dataset.content = content;
    return card;
  }
}

function createCard(name) {
  const card = createElement("li");
  card.innerHTML =
    '<a><span class="thumbnail"></span><span class="card-title"></span><span class="mask-size-bar"><i></i></span>' +
    '<span class="mask-size"></span></a>';
  $("a", card).href = hashFromState({ name });
  Object.assign($(".card-title", card), { textContent: name, title: name });
  return card;
}

function fillCard(card, { name, size, error, uploaded, met, part, released, contrast }, whereHidden) {
  const sizeLabel = $(".mask-size", card);
  if (size === null) {
    sizeLabel.textContent = error || "…";
    card.classList.toggle("unreadable", error !== null);
    return;
  }
  // The picture is decorative: the link is named by its text.
  const picture = createElement("img", { loading: "lazy", alt: "", src: api.imagePath(name, "thumbnail.jpg") });
  $(".thumbnail", card).replaceChildren(picture);
  $(".mask-size-bar i", card).style.width = `${100 * size}%`;
  sizeLabel.textContent = `${formatPercent(size)} hidden${whereHidden}${uploaded ? " · uploaded" : ""}${part ? ` · ${part}` : ""}`;
  if (released !== null)
    sizeLabel.append(createElement("span", { className: `released ${released}`, textContent: releaseText(released) }));
  if (contrast) sizeLabel.append(createElement("span", { className: "contrast", textContent: contrast }));
  if (met === false) sizeLabel.append(createElement("b", { textContent: BEYOND_THRESHOLD }));
}
