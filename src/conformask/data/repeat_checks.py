"""Measurements of noisy references, image by image: are they independent looks at what the input shows?"""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy.fft import irfftn, next_fast_len, rfftn

from conformask.data.noise import BLOCK, in_blocks, split
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
ROUNDING = 1e-6
"""Variance of a difference, as a share of that of the images, up to which they are the same."""
COUNTED = 1.2
"""Zeros of an image, in those that counts of its brightness have, up to which it may hold counts."""
DETAIL = 2.0
"""Largest amplification of detail by a network; what it shares with repeats beyond that is their noise."""


class Ends(NamedTuple):
    """Shares of values at the lower and the upper end of the range."""

    low: float
    """0 where the zeros are those of counts, which are not cut off."""
    high: float


class Drift(NamedTuple):
    """Brightness of c compared to b: c = gain * b + a constant, and mean(c) = level * mean(b)."""

    gain: float
    gain_error: float
    """Standard error of log(gain), infinite if the image is too small or too even to show it."""
    level: float
    level_error: float
    """Standard error of log(level)."""


class Shift(NamedTuple):
    """How far c has moved against b, in pixels along the axis where it is clearest."""

    pixels: float
    error: float
    """Standard error, infinite if the image is too small or too even to show it."""


class SharedNoise(NamedTuple):
    """Correlation of the noise in the reference with that in the network's input."""

    coefficient: float
    z: float
    """The coefficient in standard errors."""


@dataclass(frozen=True)
class Leak:
    """How much noise of the repeats b and c an image z carries, x or y_hat; `+` pools that of several images.

    Let z have the shares k and l of their noises, each of variance s^2, and g times the detail of the image,
    of variance v. Then (b - c) z has the mean (k - l) s^2, and (b + c) z - 2 DETAIL b c that of
    (k + l) s^2 - 2 (DETAIL - g) v, which is above 0 only with noise. If x is a third repeat, the mean of
    (b + c) x - 2 b c is 0, and (x - (b + c) / 2) y_hat is above 0, unless y_hat has as much noise of b and c.
    """

    products: Array
    """Sums of (b - c) z, of (b + c) z - 2 DETAIL b c, and of the last for this image."""
    squares: Array
    """Sums of the squares of the three over blocks."""
    noise: Array
    """What the sums would be if z carried all of the noise: of (b - c)^2 / 2, and of (x - (b + c) / 2)^2."""
    error: float
    """Sum of (b - y_hat)(c - y_hat)."""

    def __add__(self, other: "Leak") -> "Leak":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Leak(*(one + another for one, another in pairs))

    @property
    def shares(self) -> Array:
        """|k - l|, at least k + l, and the share of the noise of x beyond that of b and c."""
        sizes = np.array([abs(self.products[0]), *self.products[1:]])
        return sizes / np.where(self.noise > 0, self.noise, math.inf)

    @property
    def errors(self) -> Array:
        """Their standard errors."""
        return np.sqrt(self.squares) / np.where(self.noise > 0, self.noise, math.inf)

    @property
    def z(self) -> Array:
        """The shares in standard errors."""
        return self.shares / np.where(self.errors > 0, self.errors, math.inf)

    def hidden(self, share: float) -> float:
        """Return the share of the squared error of y_hat that is not seen, if it carries this share."""
        unseen = share * float(self.noise[0])
        return unseen / max(self.error + unseen, unseen, np.finfo(float).tiny)


@dataclass(frozen=True)
class Correlation:
    """How the noise of repeats is correlated between pixels; `+` pools that of several images."""

    products: Array
    """Sums of the products of two values of noise, at each offset from -FARTHEST to FARTHEST."""
    squares: Array
    """Sums of the squares of these products."""
    parts: Array
    """Sums of t^2, q and q^2 over each kind of part, such as rows (`parts_of`), t the sum of the noise of a
    part and q of its squares."""

    def __add__(self, other: "Correlation") -> "Correlation":
        return Correlation(
            self.products + other.products, self.squares + other.squares, self.parts + other.parts
        )

    @property
    def coefficients(self) -> Array:
        """Correlation coefficients at each offset, 1 in the middle; 0 if there is no noise."""
        return self.products / (self.products.max() or 1.0)

    @property
    def seen(self) -> Array:
        """The absolute coefficients, 0 where they are below FAINT or SIGNIFICANT standard errors.

        These allow for pixels with more noise than others and, by Bartlett's formula, for the correlation at
        other offsets.
        """
        coefficients = self.coefficients
        errors = np.sqrt(self.squares * (coefficients**2).sum()) / (self.products.max() or 1.0)
        limits = np.maximum(FAINT, SIGNIFICANT * errors)
        limits[(FARTHEST,) * limits.ndim] = 0
        return np.where(np.abs(coefficients) > limits, np.abs(coefficients), 0.0)

    @property
    def beyond(self) -> Array:
        """How much more the sums over each part vary than the correlation seen nearby explains.

        In variances of a sum over independent pixels; 0 below SIGNIFICANT standard errors. The last two are
        blocks of BLOCK pixels and of NEIGHBOURHOOD pixels, others rows, columns and, of volumes, planes.
        """
        seen, middle = self.seen, (slice(FARTHEST, FARTHEST + 1), slice(None))
        squares = np.maximum(self.parts[:, 1], np.finfo(float).tiny)
        ratios, errors = self.parts[:, 0] / squares, np.sqrt(2 * self.parts[:, 2]) / squares
        parts, beyond = parts_of(seen.ndim), np.zeros(len(ratios))
        for place, axes in enumerate(parts):
            near = seen[tuple(middle[axis in axes] for axis in range(1, seen.ndim + 1))].sum()
            near += sum(beyond[at] for at in range(place) if set(parts[at]) < set(axes))
            excess = ratios[place] - near
            beyond[place] = excess * (excess > SIGNIFICANT * errors[place] * ratios[place])
        return beyond

    @property
    def range(self) -> int:
        """Distance in pixels, along any axis, from which no correlation is seen: 1 for independent pixels.

        FARTHEST + 1 means that there is no such distance within reach, as where rows share noise.
        """
        if self.beyond[:-2].any():
            return FARTHEST + 1
        return int(np.abs(np.argwhere(self.seen > 0) - FARTHEST).max(initial=0)) + 1

    @property
    def reach(self) -> float:
        """The power 1 / axes of the sum of the absolute coefficients seen and of what is beyond; at least 1.

        Its power `axes` bounds the variance of a sum, divided by that of a sum over independent pixels.
        """
        total = float(self.seen.sum() + self.beyond[:-1].sum())
        return float(max(total, 1.0) ** (1 / self.seen.ndim))

    @property
    def rounded_reach(self) -> float:
        """The reach with two decimals, rounded up."""
        return math.ceil(100 * self.reach - 1e-9) / 100


def parts_of(axes: int) -> list[tuple[int, ...]]:
    """Return the axes, from 1 on, along which each kind of part of an image extends, see `Correlation`."""
    places = range(1, axes + 1)
    lines = [part for size in range(1, axes) for part in combinations(places, size)]
    return [*lines, tuple(places), tuple(places)]


def ends(image: Array, y_hat: Array) -> Ends:
    """Return the shares of values of an image in [0, 1] that lie at the ends of the range.

    Counts whose mean is k, by y_hat, are 0 in exp(-k) of the pixels; one count is the smallest value above 0.
    """
    low, positive = float((image <= 0).mean()), image[image > 0]
    if len(positive):
        low *= low > COUNTED * float(np.exp(-y_hat.clip(0) / positive.min()).mean())
    return Ends(low, float((image >= 1).mean()))


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


def without_drift(b: Array, c: Array, gain: float) -> Array:
    """Return c with the brightness of b."""
    return np.asarray((c - c.mean()) / gain + b.mean())


def correlation(b: Array, c: Array) -> Correlation:
    """Correlate the noise b - c of two repeats, each (C, *space), with itself at each offset.

    Slow differences are subtracted before, but for the largest blocks. c has the brightness of b.
    """
    whole = b - c
    noise = _without_slow_parts(whole)
    blocks = [split(noise, BLOCK), split(whole, NEIGHBOURHOOD)]
    parts = [_sums(noise, axes) for axes in parts_of(noise.ndim - 1)[:-2]]
    parts += [_sums(*each) for each in blocks]
    return Correlation(_at_offsets(noise, noise), _at_offsets(noise**2, noise**2), np.array(parts))


def leaks(b: Array, c: Array, x: Array, y_hat: Array) -> tuple[Leak | None, Leak]:
    """Measure how much noise of two repeats is in the network's input x and in its output.

    All are (C, *space), c with the brightness of b; x may be smaller by a whole factor, and of another
    brightness; its leak is None if it has another size or other channels. The noise is that of the smoother
    half of y_hat, without the means of blocks; in (b + c) z, to which detail adds, it is that of second
    differences.
    """
    comparable = (len(b), b.ndim) == (len(x), x.ndim) and not any(np.array(b.shape) % x.shape)
    x = x if comparable else (b + c) / 2
    b, c, y_hat = (_reduced(each, x.shape) for each in (b, c, y_hat))
    smooth, same_brightness = _smooth_blocks(y_hat), (b, c, without_drift(b, x, drift(b, x).gain), y_hat)
    (b, b_fine), (c, c_fine), (x, x_fine), (y_hat, y_fine) = (
        [in_blocks(each(image))[smooth].astype(np.float64) for each in (_inner, _fine)]
        for image in same_brightness
    )
    error = float(((b - y_hat) * (c - y_hat)).sum())
    b, c, x, y_hat = (each - each.mean(axis=1, keepdims=True) for each in (b, c, x, y_hat))
    of_x, fine = x - (b + c) / 2, 2 * b_fine * c_fine
    noise = np.array([float(each.sum()) for each in ((b - c) ** 2 / 2, (b_fine - c_fine) ** 2 / 2, of_x**2)])

    def carried(image: Array, image_fine: Array, last: Array) -> Leak:
        sums = (b_fine + c_fine) * image_fine
        rows = np.array([each.sum(axis=1) for each in ((b - c) * image, sums - DETAIL * fine, last)])
        return Leak(rows.sum(axis=1), (rows**2).sum(axis=1), noise, error)

    in_x = carried(x, x_fine, (b_fine + c_fine) * x_fine - fine) if comparable else None
    return in_x, carried(y_hat, y_fine, of_x * y_hat)


def shift(b: Array, c: Array) -> Shift:
    """Measure how far c has moved against b, each (C, *space): the peak of their cross correlation.

    It is that of the parabola through the largest correlation and its neighbours, along each axis. c has the
    brightness of b.
    """
    of_lags, shifts = _at_offsets(_without_slow_parts(b), _without_slow_parts(c)), []
    lags = np.array(np.unravel_index(of_lags.argmax(), of_lags.shape)) - FARTHEST
    c = np.roll(c, -lags, tuple(range(1, b.ndim)))
    margins = [min(abs(lag) + 1, (length - 1) // 2) for lag, length in zip(lags, b.shape[1:], strict=True)]
    inner = (slice(None), *(slice(each, -each or None) for each in margins))
    for axis, lag in enumerate(lags.tolist(), start=1):
        slope = (np.roll(b + c, -1, axis) - np.roll(b + c, 1, axis)) / 4
        steps = (np.roll(b, -1, axis) - b) * (np.roll(c, -1, axis) - c)
        moved, steep = (in_blocks(each[inner]).sum(axis=1) for each in ((b - c) * slope, steps))
        if b.shape[axis] >= 3 and steep.sum() > SIGNIFICANT * math.sqrt((steep**2).sum()):
            rest = float(moved.sum() / steep.sum())
            error = math.sqrt(((moved - rest * steep) ** 2).sum()) / float(steep.sum())
            shifts.append(Shift(lag + rest, error))
    return max(shifts, key=lambda each: abs(each.pixels / each.error), default=Shift(0.0, math.inf))


def shared_noise(b: Array, x: Array, y_hat: Array) -> SharedNoise | None:
    """Correlate the noise of a single reference b with that of the network's input x.

    y_hat stands for the truth, and its errors, in b - y_hat and in x - y_hat, correlate; so do b and x
    themselves, which show the same, and the smaller correlation is returned. Detail that y_hat lacks is kept
    out by second differences in the smoother half of y_hat.

    All are (C, *space); x may be smaller by a whole factor. Returns None if x has another size or other
    channels, or shows no noise.
    """
    if (len(b), b.ndim) != (len(x), x.ndim) or any(np.array(b.shape) % x.shape):
        return None
    b, y_hat = _reduced(b, x.shape), _reduced(y_hat, x.shape)
    smooth = _smooth_blocks(y_hat)
    pairs = [(b - y_hat, x - y_hat), (b, x)]
    found = [_correlated(*(in_blocks(_fine(image))[smooth] for image in pair)) for pair in pairs]
    return min((each for each in found if each is not None), default=None)


def noise_ratio(b: Array, c: Array) -> float:
    """Return the variance of the noise in the repeat that has less of it, as a share of the other's.

    It is about 1 for two repeats, near 0 if one of them was denoised, and 0 if they are the same image.
    Second differences are measured; what the image shows is in both, of one brightness, and cancels.
    """
    of_b, of_c, of_both = (float((_fine(image) ** 2).mean()) for image in (b, c, b - c))
    if of_both <= ROUNDING * of_b:
        return 0.0
    low, high = sorted((of_both + of_b - of_c, of_both + of_c - of_b))
    return max(low, 0.0) / high


def noise_share(b: Array, y_hat: Array, model: NoiseModel) -> float:
    """Return the variance of the noise in b, as a share of what the model says; at most a little too large.

    Second differences are measured in the smoother half of y_hat, before and after it is subtracted; what is
    left of the image adds to the smaller of both.
    """
    smooth = _smooth_blocks(y_hat)
    means = in_blocks(_inner(b))[smooth].mean(axis=1)
    fine = min(float((in_blocks(_fine(image))[smooth] ** 2).mean()) for image in (b, b - y_hat))
    return fine / (float(model.variance(np.maximum(means, model.offset)).mean()) or 1.0)


def _log_gain_and_level(means: Array) -> Array:
    """Return the logs of the slope of c on b, and of the ratio of their means."""
    across, along = np.linalg.eigh(np.cov(means))[1][:, -1]
    gain = along / across if across * along > 0 else 1.0
    return np.asarray(np.log([gain, means[1].mean() / means[0].mean()]))


def _at_offsets(one: Array, other: Array) -> Array:
    """Return the sums of one[i] * other[i + offset], offsets up to a quarter of each axis, else 0."""
    reach = [min(FARTHEST, length // 4) for length in one.shape[1:]]
    lengths = zip(one.shape[1:], reach, strict=True)
    padded = [next_fast_len(length + far, real=True) for length, far in lengths]
    axes = tuple(range(1, one.ndim))
    waves = np.conj(rfftn(one, padded, axes)) * rfftn(other, padded, axes)
    window = np.ix_(*(np.arange(-far, far + 1) for far in reach))
    sums = irfftn(waves, padded, axes).sum(axis=0)[window]
    return np.asarray(np.pad(sums, [(FARTHEST - far,) * 2 for far in reach]))


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


def _sums(values: Array, axes: Any) -> list[float]:
    """Return the sums of t^2, q and q^2, t and q the sums along these axes of values and of their squares."""
    totals, squares = (power.sum(axis=axes, dtype=np.float64) for power in (values, values**2))
    return [float(each.sum()) for each in (totals**2, squares, squares**2)]


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
