// The scale bar: its length, and its drawing on a saved picture, where it looks as style.css has it on the screen.

const METRES = { nm: 1e-9, "µm": 1e-6, mm: 1e-3, m: 1 };
const ROUND_COUNTS = [1, 2, 5, 10, 20, 50, 100, 200, 500];
const LENGTHS = Object.entries(METRES).flatMap(([unit, metres]) =>
  ROUND_COUNTS.map((count) => ({ text: `${count} ${unit}`, metres: count * metres })), // in ascending order
);

// Screen pixels, as .scale-bar has them in style.css.
const MARGIN_RIGHT = 12;
const MARGIN_BOTTOM = 10;
const BAR_HEIGHT = 5;
const LINE_HEIGHT = 14;
const FONT = "12px/1.2 system-ui, sans-serif";

/** Return the longest round length that fits into a width, or the shortest there is, as { text, width }. */
export function scaleBar(spacing, unit, scale, maxWidth) {
  // A pixel of the image measures `spacing` in `unit`, and takes `scale` screen pixels.
  const metresPerScreenPixel = (spacing * METRES[unit]) / scale;
  const fitting = LENGTHS.filter(({ metres }) => metres <= maxWidth * metresPerScreenPixel);
  const { text, metres } = fitting.at(-1) ?? LENGTHS[0];
  return { text, width: metres / metresPerScreenPixel };
}

/** Draw a scale bar { text, width } in the lower right corner of a canvas with `density` pixels per screen pixel. */
export function drawScaleBar(context, { text, width }, density) {
  context.save();
  context.scale(density, density);
  const right = context.canvas.width / density - MARGIN_RIGHT;
  const bottom = context.canvas.height / density - MARGIN_BOTTOM;
  const top = bottom - LINE_HEIGHT - BAR_HEIGHT;
  // White with a black border, which is seen on every picture.
  context.fillStyle = "black";
  context.fillRect(right - width, top, width, BAR_HEIGHT);
  context.fillStyle = "white";
  context.fillRect(right - width + 1, top + 1, width - 2, BAR_HEIGHT - 2);
  Object.assign(context, {
    font: FONT, textAlign: "center", textBaseline: "bottom", lineWidth: 3, lineJoin: "round",
  });
  context.strokeText(text, right - width / 2, bottom);
  context.fillText(text, right - width / 2, bottom);
  context.restore();
}
