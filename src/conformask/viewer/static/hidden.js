// What is hidden, over the output: hatched or outlined, in screen pixels at every zoom.

const PERIOD = 12; // screen pixels from stripe to stripe, along a row
const STRIPE = 2.5; // their width
const EDGE = 1; // dark, so that they are seen on every colour
const SHADE = "rgb(0 0 0 / .55)";
const HALF = 128;
const AROUND = Array.from({ length: 16 }, (_, at) => [Math.cos((at * Math.PI) / 8), Math.sin((at * Math.PI) / 8)]);

// A mask of one byte a pixel, 255 = trusted, as a canvas that is opaque where it hides; for outlines all or nothing.
// Nothing hides where `outside` is opaque, which may be missing.
export function hiding(bytes, width, height, mode, outside) {
  const image = new ImageData(width, height);
  for (let i = 0; i < bytes.length; i++)
    image.data[4 * i + 3] = mode === "outline" ? (bytes[i] < HALF) * 255 : 255 - bytes[i];
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.putImageData(image, 0, 0);
  context.globalCompositeOperation = "destination-out";
  if (outside) context.drawImage(outside, 0, 0);
  return canvas;
}

// parts: { canvas, left, top, width, height } on the plane, later ones in place of earlier ones.
// place: { x, y, scale, density } of the plane on the context, which has `density` pixels a screen pixel.
export function drawHidden(context, parts, { mode, colour, opacity }, place) {
  const drawn = layerLike(context);
  placed(drawn, parts, place);
  if (mode === "hatch") filled(drawn, hatch(drawn, colour, place));
  context.globalAlpha = opacity;
  const layers = mode === "hatch" ? [drawn] : [[STRIPE / 2 + EDGE, SHADE], [STRIPE / 2, colour]].map(
    ([width, style]) => outline(drawn, width * place.density, style));
  for (const layer of layers) context.drawImage(layer.canvas, 0, 0);
  context.globalAlpha = 1;
}

const layerLike = ({ canvas }) => new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");

function placed(context, parts, { x, y, scale, density }) {
  context.imageSmoothingEnabled = scale < 1;
  for (const { canvas, left, top, width, height } of parts) {
    const at = [x + scale * left, y + scale * top, scale * width, scale * height].map((value) => density * value);
    context.clearRect(...at);
    context.drawImage(canvas, ...at);
  }
}

// Whatever was drawn, in this colour or pattern.
function filled(context, style) {
  context.globalCompositeOperation = "source-in";
  context.fillStyle = style;
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
}

// A line around what was drawn.
function outline(drawn, width, style) {
  const context = layerLike(drawn);
  for (const [right, down] of AROUND) context.drawImage(drawn.canvas, width * right, width * down);
  context.globalCompositeOperation = "destination-out";
  context.drawImage(drawn.canvas, 0, 0);
  filled(context, style);
  return context;
}

// Stripes that stay where they are on the plane.
function hatch(context, colour, { x, y, density }) {
  const side = Math.round(PERIOD * density);
  const tile = new OffscreenCanvas(side, side).getContext("2d");
  for (const [style, width] of [[SHADE, STRIPE + 2 * EDGE], [colour, STRIPE]]) {
    Object.assign(tile, { strokeStyle: style, lineWidth: width * density });
    for (const sum of [0, side, 2 * side]) { // of row and column
      tile.beginPath();
      tile.moveTo(sum + side, -side);
      tile.lineTo(sum - 2 * side, 2 * side);
      tile.stroke();
    }
  }
  const pattern = context.createPattern(tile.canvas, "repeat");
  pattern.setTransform(new DOMMatrix().translate(density * x, density * y));
  return pattern;
}
