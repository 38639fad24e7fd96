// Which channels of an image are shown, and in which colours: rrggbb of each, after a minus where it is off.

const OFF = "-";
const BLACK = "000000";
const by = (id) => document.querySelector(id);

export class Channels {
  #change;
  #usual = null; // rrggbb of each channel; null of an image that is grey or RGB
  #chosen = null;
  #controls = []; // of each channel: whether it is shown, and its colour

  constructor(change) {
    this.#change = change;
    by("#open-channels").addEventListener("click", () => this.#toggle());
    by("#usual-colours").addEventListener("click", () => change({ channels: null }));
  }

  // Another image, and the colours of its channels as the server gives them.
  hold({ colors }) {
    this.#usual = colors;
    by("#open-channels").hidden = colors === null;
    if (colors === null) this.#toggle(false);
    const count = colors?.length ?? 0;
    if (this.#controls.length === count) return;
    this.#controls = Array.from({ length: count }, (_, at) => controlsOf(at + 1, () => this.#set()));
    by("#channels").replaceChildren(...this.#controls.map(({ row }) => row), by("#usual-colours"));
  }

  // Colours for another number of channels were chosen for other images.
  show(channels) {
    if (this.#usual === null) return;
    const before = this.#chosen;
    this.#chosen = channels?.length === this.#usual.length ? channels : null;
    this.#controls.forEach(({ shown, colour }, at) => {
      const said = this.#shown[at];
      shown.checked = !said.startsWith(OFF);
      colour.value = `#${said.replace(OFF, "")}`;
    });
    by("#usual-colours").disabled = this.#chosen === null;
    if (this.#chosen && !before) this.#toggle(true);
  }

  // As the server takes them; nothing where they are the usual ones.
  get asked() {
    if (this.#usual === null || this.#chosen === null) return {};
    return { colors: this.#chosen.map((colour) => (colour.startsWith(OFF) ? BLACK : colour)).join(",") };
  }

  get legend() {
    const off = this.#usual === null ? [] : this.#shown.flatMap((colour, at) => (colour.startsWith(OFF) ? at + 1 : []));
    if (off.length === 0) return "";
    return off.length === 1 ? `Channel ${off[0]} is not shown.` : `Channels ${off.join(", ")} are not shown.`;
  }

  get #shown() {
    return this.#chosen ?? this.#usual;
  }

  #set() {
    this.#change({ channels: this.#controls.map(({ shown, colour }) => (shown.checked ? "" : OFF) + colour.value.slice(1)) });
  }

  #toggle(open = by("#channels").hidden) {
    by("#channels").hidden = !open;
    by("#open-channels").setAttribute("aria-expanded", open);
  }
}

function controlsOf(number, changed) {
  const row = document.createElement("div");
  row.className = "setting";
  row.innerHTML = '<label class="choice"><input type="checkbox"><span></span></label><input type="color">';
  const [shown, colour] = row.querySelectorAll("input");
  row.querySelector("span").textContent = `Channel ${number}`;
  colour.ariaLabel = `Colour of channel ${number}`;
  for (const input of [shown, colour]) input.addEventListener("input", changed);
  return { row, shown, colour };
}
