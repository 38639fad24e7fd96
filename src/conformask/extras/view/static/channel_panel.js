// Panel that switches the channels of an image on and off and chooses their colours.
//
// Colours are written as in the page's address: rrggbb for each channel, after a minus where the channel is off.

import { $, createElement, togglePanel } from "./dom.js";

const OFF_PREFIX = "-";
const BLACK = "000000";

const isOff = (colour) => colour.startsWith(OFF_PREFIX);

/** The panel of channels, hidden for grey and RGB images, whose channels have no colours to choose. */
export class ChannelPanel {
  #updateState;
  #defaultColours = null; // as the server gives them; null for a grey or RGB image
  #chosenColours = null; // null while the default colours are shown
  #rows = []; // one { element, checkbox, colourInput } for each channel

  constructor(updateState) {
    this.#updateState = updateState;
    $("#toggle-channels").addEventListener("click", () => togglePanel("channels"));
    $("#default-colours").addEventListener("click", () => updateState({ channels: null }));
  }

  /** Build the controls for the channels of an image, from the default colours that the server gives. */
  setImage({ colors }) {
    this.#defaultColours = colors;
    $("#toggle-channels").hidden = colors === null;
    if (colors === null) togglePanel("channels", false);
    const count = colors?.length ?? 0;
    if (this.#rows.length === count) return; // keeps the focus when images are browsed
    this.#rows = Array.from({ length: count }, (_, index) => createRow(index + 1, () => this.#applyControls()));
    $("#channels-panel").replaceChildren(...this.#rows.map(({ element }) => element), $("#default-colours"));
  }

  /** Show the colours of a state; those that were chosen for another number of channels are ignored. */
  render(channels) {
    if (this.#defaultColours === null) return;
    const hadChosenColours = this.#chosenColours !== null;
    this.#chosenColours = channels?.length === this.#defaultColours.length ? channels : null;
    this.#rows.forEach(({ checkbox, colourInput }, index) => {
      const colour = this.#colours[index];
      checkbox.checked = !isOff(colour);
      colourInput.value = `#${colour.replace(OFF_PREFIX, "")}`;
    });
    $("#default-colours").disabled = this.#chosenColours === null;
    if (this.#chosenColours && !hadChosenColours) togglePanel("channels", true);
  }

  /** The colours as parameters of a request for a picture, where a channel that is off is black. */
  get queryParameters() {
    if (this.#defaultColours === null || this.#chosenColours === null) return {};
    return { colors: this.#chosenColours.map((colour) => (isOff(colour) ? BLACK : colour)).join(",") };
  }

  /** A sentence that names the channels that are off; empty if all are on. */
  get legend() {
    if (this.#defaultColours === null) return "";
    const offNumbers = this.#colours.flatMap((colour, index) => (isOff(colour) ? index + 1 : []));
    if (offNumbers.length === 0) return "";
    return offNumbers.length === 1
      ? `Channel ${offNumbers[0]} is not shown.`
      : `Channels ${offNumbers.join(", ")} are not shown.`;
  }

  get #colours() {
    return this.#chosenColours ?? this.#defaultColours;
  }

  #applyControls() {
    const channels = this.#rows.map(
      ({ checkbox, colourInput }) => (checkbox.checked ? "" : OFF_PREFIX) + colourInput.value.slice(1),
    );
    this.#updateState({ channels });
  }
}

function createRow(number, onInput) {
  const element = createElement("div", { className: "setting" });
  element.innerHTML =
    '<label class="checkbox-label"><input type="checkbox"><span></span></label><input type="color">';
  const [checkbox, colourInput] = element.querySelectorAll("input");
  $("span", element).textContent = `Channel ${number}`;
  colourInput.ariaLabel = `Colour of channel ${number}`;
  for (const input of [checkbox, colourInput]) input.addEventListener("input", onInput);
  return { element, checkbox, colourInput };
}
