// Values in the units in which they were stated, and lengths.

const METRES = { nm: 1e-9, "µm": 1e-6, mm: 1e-3, m: 1 };
const ROUND = [1, 2, 5, 10, 20, 50, 100, 200, 500];
const DIGITS = 4;

// A value in [0, 1] as it was stated, with the digits that its range has room for.
export function stated(value, [low, high]) {
  return rounded(low + (high - low) * value, [low, high]);
}

export function rounded(value, [low, high]) {
  const decimals = Math.max(0, DIGITS - Math.round(Math.log10(high - low)));
  return Number(value.toFixed(Math.min(decimals, 20)));
}

// The longest round length that fits into the room: its text, and how many screen pixels it takes.
export function scaleBar(step, unit, pixels, room) {
  const metres = (step * METRES[unit]) / pixels; // of a screen pixel
  const all = Object.entries(METRES).flatMap(([name, size]) => ROUND.map((count) => [`${count} ${name}`, count * size]));
  const [text, length] = all.filter(([, length]) => length <= room * metres).at(-1) ?? all[0];
  return { text, width: length / metres };
}
