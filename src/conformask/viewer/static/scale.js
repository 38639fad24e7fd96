// The scale bar in the corner of a picture that is saved, as style.css has it on the screen.

const RIGHT = 12; // screen pixels, as all lengths here
const BOTTOM = 10;
const HEIGHT = 5;
const FONT = "12px/1.2 system-ui, sans-serif";
const LINE = 14;

// bar: { text, width }; the context has `density` pixels a screen pixel.
export function drawScaleBar(context, { text, width }, density) {
  context.save();
  context.scale(density, density);
  const right = context.canvas.width / density - RIGHT;
  const bottom = context.canvas.height / density - BOTTOM;
  const top = bottom - LINE - HEIGHT;
  context.fillStyle = "black";
  context.fillRect(right - width, top, width, HEIGHT);
  context.fillStyle = "white";
  context.fillRect(right - width + 1, top + 1, width - 2, HEIGHT - 2);
  Object.assign(context, { font: FONT, textAlign: "center", textBaseline: "bottom", lineWidth: 3, lineJoin: "round" });
  context.strokeText(text, right - width / 2, bottom);
  context.fillText(text, right - width / 2, bottom);
  context.restore();
}
