// The mask of a plane, from its score and the level of the mask, by the formulas of the package conformask.masks.families.
//
// The level holds the few numbers that turn a score into a mask: the server computes it from the whole image, and the
// page applies it pixel by pixel. A move of a slider therefore needs only a new level, and no new picture.
// Mask values are in [0, 1], or bytes: 1 or 255 = trusted, 0 = hidden.

// Scores below the boundary are trusted; scores equal to it share what remains of the budget.
const stepMask = ([boundary, fraction]) => (score) => (score < boundary ? 1 : score === boundary ? fraction : 0);

const FAMILIES = {
  binary: (settings, [boundary]) => (score) => (score < boundary ? 1 : 0),
  reciprocal: ({ epsilon }, [lambda]) => (score) => Math.min(1, lambda / (epsilon + score)),
  power: ({ epsilon, gamma }, [lambda]) => (score) =>
    epsilon + score <= lambda ? 1 : (lambda / (epsilon + score)) ** gamma,
  trusted_mean: (settings, level) => stepMask(level),
  water_filling: ({ exponent }, level) => {
    if (exponent === 1) return stepMask(level);
    const [sigma] = level;
    return (score) => (sigma <= 0 ? 0 : score <= sigma ? 1 : (sigma / score) ** (1 / (exponent - 1)));
  },
};
const parseNumber = (value) => (value === "inf" ? Infinity : value); // JSON has no infinity

const maskFunction = (level, family) => FAMILIES[family.name](family, level.map(parseNumber));

/** Return the mask at one pixel, in [0, 1], from its score in each channel: the mean over channels. */
export function maskValue(scores, level, family) {
  const maskOf = maskFunction(level, family);
  return scores.reduce((sum, score) => sum + maskOf(score), 0) / scores.length;
}

/** Return the mask of a score, which holds channel after channel, as one byte per pixel: the mean over channels. */
export function maskBytes(score, channels, level, family) {
  const maskOf = maskFunction(level, family);
  const pixels = score.length / channels;
  const bytes = new Uint8ClampedArray(pixels); // rounds and clamps what is assigned
  if (channels === 1) {
    for (let i = 0; i < pixels; i++) bytes[i] = 255 * maskOf(score[i]);
    return bytes;
  }
  for (let i = 0; i < pixels; i++) {
    let sum = 0;
    // Each channel is rounded before the mean, as the Python package does.
    for (let j = i; j < score.length; j += pixels) sum += Math.round(255 * maskOf(score[j]));
    bytes[i] = sum / channels;
  }
  return bytes;
}

/** Write a mask of one byte per pixel into RGBA pixels, as opaque grey. */
export function paintGrey(rgba, bytes) {
  const pixels = new Uint32Array(rgba.buffer); // 0xAABBGGRR, as platforms are little-endian
  for (let i = 0; i < bytes.length; i++) pixels[i] = 0xff000000 | (bytes[i] * 0x010101);
}
