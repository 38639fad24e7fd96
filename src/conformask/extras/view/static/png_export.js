// PNG files of a picture with its caption below.

import { createElement } from "./dom.js";

/** The number of pixels per CSS pixel of a saved picture, which keeps its text sharp in print. */
export const EXPORT_DENSITY = 2;

// CSS pixels.
const MIN_WIDTH = 480; // narrower pictures are centred above a caption of this width
const MARGIN = 16;
const FONT = "14px/20px system-ui, sans-serif";
const LINE_HEIGHT = 20;
const PARAGRAPH_GAP = 6;

/** Return a canvas with a picture, drawn at the density of exports, and paragraphs of text below it. */
export function addCaption(picture, paragraphs) {
  const width = Math.max(picture.width / EXPORT_DENSITY, MIN_WIDTH);
  const measuringContext = new OffscreenCanvas(1, 1).getContext("2d");
  measuringContext.font = FONT;
  const wrapped = paragraphs.map((text) => wrapText(measuringContext, text, width - 2 * MARGIN));
  const captionHeight = wrapped.flat().length * LINE_HEIGHT + (wrapped.length - 1) * PARAGRAPH_GAP + 2 * MARGIN;
  const canvas = new OffscreenCanvas(EXPORT_DENSITY * width, picture.height + EXPORT_DENSITY * captionHeight);
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, (canvas.width - picture.width) / 2, 0);
  context.scale(EXPORT_DENSITY, EXPORT_DENSITY);
  Object.assign(context, { font: FONT, fillStyle: "#1d2129", textBaseline: "middle" });
  let y = picture.height / EXPORT_DENSITY + MARGIN + LINE_HEIGHT / 2;
  for (const lines of wrapped) {
    for (const line of lines) {
      context.fillText(line, MARGIN, y);
      y += LINE_HEIGHT;
    }
    y += PARAGRAPH_GAP;
  }
  return canvas;
}

// Break text at spaces into lines; a word that is wider than a line gets its own line.
function wrapText(context, text, maxWidth) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (lines.at(-1) && context.measureText(line).width > maxWidth) lines.push(word);
    else lines[lines.length - 1] = line;
  }
  return lines;
}

/** Download a canvas as a PNG file. */
export async function downloadPng(canvas, fileName) {
  const url = URL.createObjectURL(await canvas.convertToBlob({ type: "image/png" }));
  createElement("a", { href: url, download: fileName }).click();
  setTimeout(() => URL.revokeObjectURL(url)); // once the click has been handled
}
