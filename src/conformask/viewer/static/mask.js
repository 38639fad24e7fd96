// The mask, pixel by pixel, from the score map and the level that the server computed of the whole image:
// the same formulas as conformask.masks. 255 = trusted.

const upTo = ([boundary, fraction]) => (s) => (s < boundary ? 1 : s === boundary ? fraction : 0);
const FAMILIES = {
  reciprocal: ({ epsilon }, [lam]) => (s) => Math.min(1, lam / (epsilon + s)),
  power: ({ epsilon, gamma }, [lam]) => (s) => (epsilon + s <= lam ? 1 : (lam / (epsilon + s)) ** gamma),
  trusted_mean: (settings, level) => upTo(level),
  water_filling: ({ exponent }, level) => {
    if (exponent === 1) return upTo(level);
    const [sigma] = level;
    return (s) => (sigma <= 0 ? 0 : s <= sigma ? 1 : (sigma / s) ** (1 / (exponent - 1)));
  },
};
const number = (value) => (value === "inf" ? Infinity : value); // JSON has no infinity

const maskOf = (level, family) => FAMILIES[family.name](family, level.map(number));

// The mask at one pixel, averaged over channels.
export function openness(score, level, family) {
  const opened = maskOf(level, family);
  return score.reduce((sum, value) => sum + opened(value), 0) / score.length;
}

// The mask of a score (channels, pixels) as one byte a pixel, averaged over channels.
export function trust(score, channels, level, family) {
  const opened = maskOf(level, family);
  const pixels = score.length / channels;
  const bytes = new Uint8ClampedArray(pixels);
  if (channels === 1) {
    for (let i = 0; i < pixels; i++) bytes[i] = 255 * opened(score[i]);
    return bytes;
  }
  for (let i = 0; i < pixels; i++) {
    let sum = 0;
    for (let at = i; at < score.length; at += pixels) sum += Math.round(255 * opened(score[at]));
    bytes[i] = sum / channels;
  }
  return bytes;
}

// Grey pixels of the mask, into RGBA.
export function grey(rgba, bytes) {
  const words = new Uint32Array(rgba.buffer);
  for (let i = 0; i < bytes.length; i++) words[i] = 0xff000000 | (bytes[i] * 0x010101);
}
