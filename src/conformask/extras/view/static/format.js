// Numbers as text, rounded, and in the range of values that a file states for black and white.

const RANGE_DIGITS = 4; // digits that distinguish values of a range, such as 0.0001 in a range of 1

/** Return a share in [0, 1] as a percentage with one decimal. */
export const formatPercent = (share) => `${(100 * share).toFixed(1)} %`;

/** Return a number rounded to significant digits. */
export const roundToDigits = (value, digits) => Number(value.toPrecision(digits));

/** Return a value rounded to the decimals that are significant in its range, such as integers in a range of 4095. */
export function roundInRange(value, [low, high]) {
  const decimals = Math.max(0, RANGE_DIGITS - Math.round(Math.log10(high - low)));
  return Number(value.toFixed(Math.min(decimals, 20)));
}

/** Return the value of a range [low, high] that a share in [0, 1] stands for, rounded. */
export const valueInRange = (share, [low, high]) => roundInRange(low + (high - low) * share, [low, high]);

/** Return how far an image is scored, in words. */
export const progressText = ({ done, total }) => `Scored ${done} of ${total} tiles`;
