// A picture with its caption below, as a PNG file.

const DENSITY = 2; // pixels a CSS pixel
const NARROWEST = 480; // CSS pixels, so that a caption can be read
const MARGIN = 16;
const FONT = "14px/20px system-ui, sans-serif";
const LINE = 20;
const SPACE = 6; // between paragraphs

export { DENSITY };

export function captioned(picture, paragraphs) {
  const width = Math.max(picture.width / DENSITY, NARROWEST);
  const measuring = new OffscreenCanvas(1, 1).getContext("2d");
  measuring.font = FONT;
  const lines = paragraphs.map((text) => wrapped(measuring, text, width - 2 * MARGIN));
  const text = lines.flat().length * LINE + (lines.length - 1) * SPACE + 2 * MARGIN;
  const canvas = new OffscreenCanvas(DENSITY * width, picture.height + DENSITY * text);
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, (canvas.width - picture.width) / 2, 0);
  context.scale(DENSITY, DENSITY);
  Object.assign(context, { font: FONT, fillStyle: "#1d2129", textBaseline: "middle" });
  let y = picture.height / DENSITY + MARGIN + LINE / 2;
  for (const paragraph of lines) {
    for (const line of paragraph) {
      context.fillText(line, MARGIN, y);
      y += LINE;
    }
    y += SPACE;
  }
  return canvas;
}

function wrapped(context, text, room) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (lines.at(-1) && context.measureText(longer).width > room) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines;
}

export async function save(canvas, name) {
  const url = URL.createObjectURL(await canvas.convertToBlob({ type: "image/png" }));
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url));
}
