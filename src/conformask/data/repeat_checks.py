"""Measurements of noisy references, image by image: are they independent looks at what the input shows?"""

import math
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.fft import dctn, irfftn, next_fast_len, rfftn

from conformask.data.noise import in_blocks, split
from conformask.records.reference import NoiseModel
from conformask.storage.as_arrays import Array

FARTHEST = 8
"""Largest distance, in pixels along each axis, at which correlation is looked for."""
FAINT = 0.02
"""Correlation coefficient below which pixels count as independent."""
SIGNIFICANT = 5.0
"""Standard errors beyond which a measurement is not chance, among hundreds of offsets and images."""
NEIGHBOURHOOD = 32
"""Side of the blocks whose mean is subtracted before noise is compared."""
PARTS = 16
"""Parts of an image that are left out in turn to measure how uncertain its drift is."""
LONG = 10.0
"""Variance of brightness along the line of c on b, in variances across it, which the line needs."""
SECOND_DIFFERENCES = np.array([1.0, -4.0, 6.0, -4.0, 1.0]) / 6
"""Correlation of the second differences 1, -2, 1 of independent pixels, at offsets from -2 to 2."""
ROUNDING = 1e-6
"""Variance of a difference, as a share of that of the images, up to which they are the same."""
GRID = 8
"""Side of the blocks of JPEG."""
WINDOW = 256
"""Sides of the part of an image in which blocks of JPEG are looked for."""
EQUALLY_BRIGHT, FEWEST_BLOCKS = 16, 32
"""Blocks of about equal brightness that are compared, and blocks that an image needs to show uneven noise."""
NEAR_ZERO = 0.1
"""Size of a frequency, as a share of its root mean square, below which it counts as rounded to 0."""


class Ends(NamedTuple):
    """Shares of values at the lower and the upper end of the range."""

    low: float
    high: float


class Drift(NamedTuple):
    """Brightness of c compared to b: c = gain * b + a constant, and mean(c) = level * mean(b)."""

    gain: float
    gain_error: float
    """Standard error of log(gain), infinite if the image is too small or too even to show it."""
    level: float
    level_error: float
    """Standard error of log(level)."""


class SharedNoise(NamedTuple):
    """Correlation of the noise in the reference with that in the network's input."""

    coefficient: float
    z: float
    """The coefficient in standard errors; infinite if the images are the same."""


@dataclass(frozen=True)
class Correlation:
    """How the noise of repeats is correlated between pixels; `+` pools that of several images."""

    products: Array
    """Sums of the products of two values of noise, at each offset from -FARTHEST to FARTHEST."""
    squares: Array
    """Sums of the squares of these products."""

    def __add__(self, other: "Correlation") -> "Correlation":
        return type(self)(self.products + other.products, self.squares + other.squares)

    @property
    def coefficients(self) -> Array:
        """Correlation coefficients at each offset, 1 in the middle; 0 if there is no noise."""
        return self.products / (self.products.max() or 1.0)

    @property
    def range(self) -> int:
        """Distance in pixels, along any axis, from which no correlation is seen: 1 for independent pixels.

        Seen is a coefficient above FAINT and SIGNIFICANT standard errors. These allow for pixels with more
        noise than others and, by Bartlett's formula, for the correlation at other offsets. FARTHEST + 1 means
        that there is no such distance within reach.
        """
        coefficients = self.coefficients
        errors = np.sqrt(self.squares * (coefficients**2).sum()) / (self.products.max() or 1.0)
        seen = np.abs(coefficients) > np.maximum(FAINT, SIGNIFICANT * errors)
        seen[(FARTHEST,) * seen.ndim] = True
        return int(np.abs(np.argwhere(seen) - FARTHEST).max()) + 1

    @property
    def reach(self) -> float:
        """The sum of the absolute coefficients closer than `range`, to the power 1 / axes; at least 1.

        Its power `axes` bounds the variance of a sum, divided by that of a sum over independent pixels.
        """
        near = slice(FARTHEST + 1 - self.range, FARTHEST + self.range)
        coefficients = self.coefficients
        total = float(np.abs(coefficients[(near,) * coefficients.ndim]).sum())
        return float(max(total, 1.0) ** (1 / coefficients.ndim))

    @property
    def fine_share(self) -> float:
        """Variance of second differences of the noise, as a share of what independent pixels have.

        It is near 0 if both repeats were smoothed.
        """
        share = self.coefficients
        for _ in range(share.ndim):
            share = np.tensordot(SECOND_DIFFERENCES, share[FARTHEST - 2 : FARTHEST + 3], 1)
        return float(share)


def ends(image: Array) -> Ends:
    """Return the shares of values of an image in [0, 1] that lie at the ends of the range."""
    return Ends(float((image <= 0).mean()), float((image >= 1).mean()))


def drift(b: Array, c: Array) -> Drift:
    """Compare the means of blocks of two repeats, each (C, *space).

    The line has the smallest distances at right angles, as both have noise: exchanged, b and c have one over
    the gain. Blocks with a value at the upper end of the range are left out.
    """
    both = in_blocks(b), in_blocks(c)
    unsaturated = np.maximum(*(values.max(axis=1) for values in both)) < 1
    means = np.stack([values[unsaturated].mean(axis=1, dtype=np.float64) for values in both])
    if means.shape[1] < 2 * PARTS or not (means.mean(axis=1) > 0).all():
        return Drift(1.0, math.inf, 1.0, math.inf)
    parts = np.array_split(np.arange(means.shape[1]), PARTS)
    left_out = np.stack([_log_gain_and_level(np.delete(means, part, axis=1)) for part in parts])
    gain, level = np.exp(_log_gain_and_level(means)).tolist()
    gain_error, level_error = (math.sqrt(PARTS - 1) * left_out.std(axis=0)).tolist()
    across, along = np.linalg.eigvalsh(np.cov(means))
    shown = along >= LONG * across
    return Drift(gain if shown else 1.0, gain_error if shown else math.inf, level, level_error)


def correlation(b: Array, c: Array) -> Correlation:
    """Correlate the noise b - c of two repeats, each (C, *space), with itself at each offset.

    Drift and slow differences are subtracted before.
    """
    noise = _without_slow_parts(b - _without_drift(b, c))
    return Correlation(_at_offsets(noise), _at_offsets(noise**2))


def shared_noise(b: Array, x: Array, y_hat: Array, c: Array | None = None) -> SharedNoise | None:
    """Correlate the noise of the reference b with that of the network's input x.

    With a second repeat c it is b - c with x - y_hat: independent of each other for any network, however
    wrong, if b and c are repeats of x; negative if c is the input. With b alone, y_hat stands for the truth,
    and its errors, in b - y_hat and in x - y_hat, correlate; so do b and x themselves, which show the same,
    and the smaller correlation is returned. Detail that a blurred or moved repeat lacks, and that y_hat
    lacks, is kept out by second differences in the smoother half of y_hat.

    All are (C, *space); x may be smaller by a whole factor. Returns None if x has another size or other
    channels, or shows no noise.
    """
    if (len(b), b.ndim) != (len(x), x.ndim) or any(np.array(b.shape) % x.shape):
        return None
    b, y_hat = _reduced(b, x.shape), _reduced(y_hat, x.shape)
    c = None if c is None else _reduced(c, x.shape)
    if np.array_equal(b, x) or (c is not None and np.array_equal(c, x)):
        return SharedNoise(1.0, math.inf)
    smooth = _smooth_blocks(y_hat)
    pairs = [(b - y_hat, x - y_hat), (b, x)] if c is None else [(b - _without_drift(b, c), x - y_hat)]
    found = [_correlated(*(in_blocks(_fine(image))[smooth] for image in pair)) for pair in pairs]
    return min((each for each in found if each is not None), default=None)


def noise_ratio(b: Array, c: Array) -> float:
    """Return the variance of the noise in the repeat that has less of it, as a share of the other's.

    It is about 1 for two repeats, near 0 if one of them was denoised, and 0 if they are the same image, also
    brightened. Second differences are measured; what the image shows is in both repeats and cancels.
    """
    c = _without_drift(b, c)
    of_b, of_c, of_both = (float((_fine(image) ** 2).mean()) for image in (b, c, b - c))
    if of_both <= ROUNDING * of_b:
        return 0.0
    low, high = sorted((of_both + of_b - of_c, of_both + of_c - of_b))
    return max(low, 0.0) / high


def unevenness(b: Array, c: Array) -> float:
    """Return how much the noise of two repeats changes from block to block, beyond what brightness explains.

    About 0.8 if they were not processed; non-local means leave noise in texture and remove it elsewhere. The
    variance of second differences of b - c in each block is divided by the median of blocks as bright; what
    is returned is the range from the 10th to the 90th percentile of the differences of its log between
    neighbouring blocks, divided by sqrt(2). Blocks where most pixels are equal in b and c, as of few counts,
    are left out; 0 if there are too few others.
    """
    used = (in_blocks(_inner(b - c)) == 0).mean(axis=1) < 0.5
    if used.sum() < FEWEST_BLOCKS:
        return 0.0
    brightness = in_blocks(_inner(b + c)).mean(axis=1)[used]
    logs = np.log((in_blocks(_fine(b - _without_drift(b, c))) ** 2).mean(axis=1)[used] + ROUNDING**2)
    for alike in np.array_split(np.argsort(brightness), len(logs) // EQUALLY_BRIGHT):
        logs[alike] -= np.median(logs[alike])
    low, high = np.quantile(np.diff(logs), (0.1, 0.9)).tolist()
    return float(high - low) / math.sqrt(2)


def noise_share(b: Array, y_hat: Array, model: NoiseModel) -> float:
    """Return the variance of the noise in b, as a share of what the model says; at most a little too large.

    Second differences are measured in the smoother half of y_hat, before and after it is subtracted; what is
    left of the image adds to the smaller of both.
    """
    smooth = _smooth_blocks(y_hat)
    means = in_blocks(_inner(b))[smooth].mean(axis=1)
    fine = min(float((in_blocks(_fine(image))[smooth] ** 2).mean()) for image in (b, b - y_hat))
    return fine / (float(model.variance(np.maximum(means, model.offset)).mean()) or 1.0)


def jpeg_share(image: Array) -> float:
    """Return the share of frequencies that are 0 in blocks of 8 x 8 pixels, beyond that in shifted blocks.

    JPEG rounds the frequencies of its own blocks, which lie in one of 64 ways, and no others. In a volume the
    middle slice is measured.
    """
    plane = (image if image.ndim == 3 else image[:, image.shape[1] // 2]).mean(axis=0, keepdims=True)
    height, width = ((min(length, WINDOW) - GRID + 1) // GRID * GRID for length in plane.shape[1:])
    if min(height, width) < 2 * GRID:
        return 0.0
    shifted = (plane[:, y : y + height, x : x + width] for y, x in product(range(GRID), repeat=2))
    waves = np.stack([_frequencies(each) for each in shifted])
    usual = np.sqrt(np.median((waves**2).mean(axis=1), axis=0))
    zeros = (np.abs(waves) <= NEAR_ZERO * usual).mean(axis=(1, 2))
    return float(zeros.max() - np.median(zeros))


def _log_gain_and_level(means: Array) -> Array:
    """Return the logs of the slope of c on b, and of the ratio of their means."""
    across, along = np.linalg.eigh(np.cov(means))[1][:, -1]
    gain = along / across if across * along > 0 else 1.0
    return np.asarray(np.log([gain, means[1].mean() / means[0].mean()]))


def _without_drift(b: Array, c: Array) -> Array:
    """Return c with the brightness of b."""
    return np.asarray((c - c.mean()) / drift(b, c).gain + b.mean())


def _at_offsets(values: Array) -> Array:
    """Return the sums of values[i] * values[i + offset], offsets up to a quarter of each axis, else 0."""
    reach = [min(FARTHEST, length // 4) for length in values.shape[1:]]
    lengths = zip(values.shape[1:], reach, strict=True)
    padded = [next_fast_len(length + far, real=True) for length, far in lengths]
    axes = tuple(range(1, values.ndim))
    sums = irfftn(np.abs(rfftn(values, padded, axes)) ** 2, padded, axes).sum(axis=0)
    window = np.ix_(*(np.arange(-far, far + 1) for far in reach))
    return np.asarray(np.pad(sums[window], [(FARTHEST - far,) * 2 for far in reach]))


def _correlated(one: Array, other: Array) -> SharedNoise | None:
    """Correlate rows of noise; the standard error is that of a sum of independent rows."""
    products = (one * other).sum(axis=1, dtype=np.float64)
    size = math.sqrt(float((one**2).sum()) * float((other**2).sum()))
    error = float(np.sqrt((products**2).sum()))
    return SharedNoise(float(products.sum()) / size, float(products.sum()) / error) if error > 0 else None


def _reduced(image: Array, shape: tuple[int, ...]) -> Array:
    """Return the means of the pixels that make one of an image with a smaller shape."""
    lengths = zip(image.shape, shape, strict=True)
    parts = [part for large, small in lengths for part in (small, large // small)]
    return np.asarray(image.reshape(parts).mean(axis=tuple(range(1, len(parts), 2))))


def _frequencies(plane: Array) -> Array:
    """Return the cosine transform of each block, without its mean, as rows."""
    blocks = in_blocks(plane, GRID).reshape(-1, GRID, GRID)
    return np.asarray(dctn(blocks, axes=(1, 2), norm="ortho").reshape(len(blocks), -1)[:, 1:])


def _without_slow_parts(image: Array) -> Array:
    """Subtract the mean of each block of NEIGHBOURHOOD pixels; what does not fill a block is left out."""
    blocks, inner = split(image, NEIGHBOURHOOD)
    lengths = [math.prod(blocks.shape[axis - 1 : axis + 1]) for axis in inner]
    return np.asarray((blocks - blocks.mean(axis=inner, keepdims=True)).reshape(len(image), *lengths))


def _smooth_blocks(y_hat: Array) -> Array:
    """Return which blocks of the inner part of an image are in its smoother half."""
    spread = in_blocks(_inner(y_hat)).var(axis=1)
    return np.asarray(spread <= np.median(spread))


def _inner(image: Array) -> Array:
    """Leave out the pixels at the border, along axes with at least three."""
    return image[:, *(slice(1, -1) if length >= 3 else slice(None) for length in image.shape[1:])]


def _fine(image: Array) -> Array:
    """Return second differences along all axes, without the border; white noise keeps its variance."""
    for axis, length in enumerate(image.shape[1:], start=1):
        if length >= 3:
            image = np.diff(image, 2, axis) / math.sqrt(6)
    return image
