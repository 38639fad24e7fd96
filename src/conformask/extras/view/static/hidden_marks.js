// Marks over the pixels that a mask hides: hatched, outlined or removed, with marks equally wide at every zoom.
//
// The marks are drawn on a canvas over the viewport. Their placement { x, y, scale, density } says where the plane lies
// on it: at the offset (x, y), enlarged by scale, all in screen pixels, of which each has `density` canvas pixels.

// Screen pixels.
const HATCH_PERIOD = 12; // from stripe to stripe, along a row
const STRIPE_WIDTH = 2.5;
const EDGE_WIDTH = 1; // dark, on both sides of a stripe or line, so that it is seen on every colour
const EDGE_COLOUR = "rgb(0 0 0 / .55)";
const CHECKER_SIDE = 6;
const CHECKER_COLOURS = ["#c9cbce", "#a9acb1"]; // as editors of images show what is transparent

/** Return the mode in which hidden pixels are best seen: specks that are narrower than the stripes are removed. */
export const readableMode = (runLength) => (runLength < HATCH_PERIOD ? "remove" : "hatch");

const SHOWN = 255; // byte of a mask below which an outline counts a pixel as hidden: no part of it may be
const OUTLINE_DIRECTIONS = Array.from({ length: 16 }, (_, index) => {
  const angle = (index * Math.PI) / 8;
  return [Math.cos(angle), Math.sin(angle)];
});

/** Return a canvas that is opaque where a mask of one byte per pixel hides: in part, or for outlines all or nothing. */
export function hiddenCanvas(maskBytes, width, height, mode, outside) {
  const image = new ImageData(width, height);
  for (let i = 0; i < maskBytes.length; i++)
    image.data[4 * i + 3] = mode === "outline" ? (maskBytes[i] < SHOWN) * 255 : 255 - maskBytes[i];
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.putImageData(image, 0, 0);
  // Nothing is hidden where `outside`, a picture of the same size, is opaque; images without a region have none.
  context.globalCompositeOperation = "destination-out";
  if (outside) context.drawImage(outside, 0, 0);
  return canvas;
}

// Parts are { canvas, left, top, width, height }: canvases of hidden pixels, and where they lie on the plane.

/** Draw the marks of a style { mode, colour, opacity } over parts of a plane, onto a canvas at a placement. */
export function drawHiddenMarks(context, parts, { mode, colour, opacity }, placement) {
  const hidden = createContextLike(context);
  drawParts(hidden, parts, placement);
  context.globalAlpha = opacity;
  for (const layer of LAYERS[mode](hidden, colour, placement)) context.drawImage(layer.canvas, 0, 0);
  context.globalAlpha = 1;
}

const LAYERS = {
  hatch: (hidden, colour, placement) => [patterned(hidden, hatchPattern(hidden, colour, placement))],
  outline: outlined,
  remove: (hidden, colour, placement) => [patterned(hidden, checkerPattern(hidden, placement))],
};

/** Return the borders of the objects of a plane, by whether they are trusted or hidden, along the sides of pixels. */
export function objectBorders(labels, maskBytes, width) {
  const borders = { trusted: new Path2D(), hidden: new Path2D() };
  labels.forEach((label, i) => {
    if (label === 0) return;
    const [x, y] = [i % width, Math.floor(i / width)];
    const border = maskBytes[i] > 0 ? borders.trusted : borders.hidden;
    const addSide = (isBorder, left, top, right, bottom) => {
      if (!isBorder) return;
      border.moveTo(left, top);
      border.lineTo(right, bottom);
    };
    addSide(x === 0 || labels[i - 1] !== label, x, y, x, y + 1);
    addSide(x === width - 1 || labels[i + 1] !== label, x + 1, y, x + 1, y + 1);
    addSide(labels[i - width] !== label, x, y, x + 1, y); // undefined outside
    addSide(labels[i + width] !== label, x, y + 1, x + 1, y + 1);
  });
  return borders;
}

/** Draw the borders of the objects of a part, in a colour for each kind, onto a canvas at a placement. */
export function drawBorders(context, { borders, canvas, left, top, width, height }, colours, placement) {
  const { x, y, scale, density } = placement;
  const toCanvas = new DOMMatrix()
    .scale(density)
    .translate(x + scale * left, y + scale * top)
    .scale((scale * width) / canvas.width, (scale * height) / canvas.height);
  context.lineCap = "square";
  for (const [kind, border] of Object.entries(borders)) {
    const path = new Path2D();
    path.addPath(border, toCanvas);
    for (const [style, lineWidth] of [[EDGE_COLOUR, STRIPE_WIDTH + 2 * EDGE_WIDTH], [colours[kind], STRIPE_WIDTH]]) {
      Object.assign(context, { strokeStyle: style, lineWidth: lineWidth * density });
      context.stroke(path);
    }
  }
}

const createContextLike = ({ canvas }) => new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");

function drawParts(context, parts, { x, y, scale, density }) {
  context.imageSmoothingEnabled = scale < 1;
  for (const { canvas, left, top, width, height } of parts) {
    const box = [x + scale * left, y + scale * top, scale * width, scale * height].map((value) => density * value);
    context.clearRect(...box); // a later part, which is sharper, replaces what earlier ones have there
    context.drawImage(canvas, ...box);
  }
}

// Replace the colour of what is drawn, and keep its opacity.
function recolour(context, style) {
  context.globalCompositeOperation = "source-in";
  context.fillStyle = style;
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
}

function patterned(hidden, pattern) {
  recolour(hidden, pattern);
  return hidden;
}

// A dark line, and a narrower one in the colour on it.
function outlined(hidden, colour, { density }) {
  return [
    outline(hidden, (STRIPE_WIDTH / 2 + EDGE_WIDTH) * density, EDGE_COLOUR),
    outline(hidden, (STRIPE_WIDTH / 2) * density, colour),
  ];
}

// Dilate the shape by drawing it shifted in all directions, then remove the shape: a line around it remains.
function outline(hidden, lineWidth, style) {
  const context = createContextLike(hidden);
  for (const [right, down] of OUTLINE_DIRECTIONS)
    context.drawImage(hidden.canvas, lineWidth * right, lineWidth * down);
  context.globalCompositeOperation = "destination-out";
  context.drawImage(hidden.canvas, 0, 0);
  recolour(context, style);
  return context;
}

// A tile of diagonal stripes, which continue across its edges. Patterns are anchored to the plane's offset, so that they
// move with the image when it is panned.
function hatchPattern(context, colour, { x, y, density }) {
  const side = Math.round(HATCH_PERIOD * density);
  const tile = new OffscreenCanvas(side, side).getContext("2d");
  for (const [style, width] of [[EDGE_COLOUR, STRIPE_WIDTH + 2 * EDGE_WIDTH], [colour, STRIPE_WIDTH]]) {
    Object.assign(tile, { strokeStyle: style, lineWidth: width * density });
    for (const sum of [0, side, 2 * side]) { // the points where column + row is this sum
      tile.beginPath();
      tile.moveTo(sum + side, -side);
      tile.lineTo(sum - 2 * side, 2 * side);
      tile.stroke();
    }
  }
  return anchored(context.createPattern(tile.canvas, "repeat"), x, y, density);
}

// A tile of four squares in two greys, in the place of what is removed.
function checkerPattern(context, { x, y, density }) {
  const side = Math.round(CHECKER_SIDE * density);
  const tile = new OffscreenCanvas(2 * side, 2 * side).getContext("2d");
  for (const [column, row] of [[0, 0], [1, 0], [0, 1], [1, 1]]) {
    tile.fillStyle = CHECKER_COLOURS[(column + row) % 2];
    tile.fillRect(column * side, row * side, side, side);
  }
  return anchored(context.createPattern(tile.canvas, "repeat"), x, y, density);
}

function anchored(pattern, x, y, density) {
  pattern.setTransform(new DOMMatrix().translate(density * x, density * y));
  return pattern;
}
