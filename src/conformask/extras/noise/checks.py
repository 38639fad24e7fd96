"""The noise of repeats: its model, its reach, and what shows that repeats are not independent."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from operator import add
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy.fft import irfftn, next_fast_len, rfftn

from conformask.errors import ImageError, InvalidArgumentError, verb
from conformask.extras.noise.clean import Allowance
from conformask.images import svg
from conformask.records.numbers import rounded_share
from conformask.records.reading import NoiseModel
from conformask.records.record import Array

BLOCK = 8
"""Side of the blocks, in pixels, within which brightness and noise are measured."""
FEWEST_BINS, MOST_BINS = 5, 40
"""Limits of the number of intervals of brightness."""
FEWEST_BLOCKS = 20
"""Blocks that an interval needs; those with fewer are left out."""
MOST_AT_END = 1e-3
"""Largest share of values at an end of the range in an interval; clipping reduces the noise beyond it."""
OUTLIER = 6.0
"""Robust standard deviations of a block's variance beyond which something else than noise differs."""
MAD_TO_SD = 1.4826
"""Standard deviation of a normal law by its median absolute deviation."""
LEAST = 0.05
"""Smallest variance that a weight assumes, as a share of the largest."""
REWEIGHTINGS = 5
"""Fits, each of which takes its weights from the one before."""

Blocks = tuple[Array, Array, Array]
"""Mean, variance and share of values at an end of the range of each block of two repeats of an image."""


@dataclass(frozen=True)
class PhotonTransfer:
    """Measured variance against mean, darkest first, and the model that was fitted to it."""

    model: NoiseModel
    mean: tuple[float, ...]
    variance: tuple[float, ...]
    count: tuple[int, ...]
    """Number of blocks of BLOCK pixels along each axis behind each point."""


def split(image: Array, side: int) -> tuple[Array, tuple[int, ...]]:
    """Split each axis of an image (C, *space) into two, blocks and places in a block; also name the latter.

    What does not fill a block is left out; an axis shorter than a block makes one.
    """
    sides = [min(side, length) for length in image.shape[1:]]
    counts = [length // each for length, each in zip(image.shape[1:], sides, strict=True)]
    whole = image[:, *(slice(count * each) for count, each in zip(counts, sides, strict=True))]
    shape = [part for pair in zip(counts, sides, strict=True) for part in pair]
    return whole.reshape(len(image), *shape), tuple(range(2, 2 * image.ndim - 1, 2))


def in_blocks(image: Array, side: int = BLOCK) -> Array:
    """Return the blocks of an image (C, *space) as rows."""
    blocks, inner = split(image, side)
    size = math.prod(blocks.shape[axis] for axis in inner)
    return np.moveaxis(blocks, inner, range(-len(inner), 0)).reshape(-1, size)


def noise_blocks(b: Array, c: Array) -> Blocks:
    """Measure the blocks of two repeats of one image, each (C, *space) in [0, 1], for `estimate_noise`."""
    both = in_blocks(b), in_blocks(c)
    at_end = sum(((values <= 0) | (values >= 1)).mean(axis=1) for values in both) / 2
    return (both[0] + both[1]).mean(axis=1) / 2, (both[0] - both[1]).var(axis=1, ddof=1) / 2, at_end


def estimate_noise(blocks: Iterable[Blocks]) -> PhotonTransfer:
    """Estimate the noise of images by two repeats of each.

    In a block of pixels the variance of (b - c) / sqrt(2) is the mean variance of its pixels, whatever the
    image shows, and a linear model of it is one of the block's mean. Blocks are gathered by that mean. Left
    out are intervals with values at an end of the range, and blocks whose variance lies far from that of
    others as bright, where something moved. Noise that neighbouring pixels share is slightly underestimated.

    The line through the points gives the gain and read**2 - gain * offset. Only a dark image separates the
    two: here the offset is 0, or the read noise is 0 if the line demands an offset. The variances are the
    same. Pixels without a photon in a detector without an offset count as clipped: of such images only the
    brighter parts are used.
    """
    means, variances, at_end = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    darkest, brightest = np.quantile(means, (0.0005, 0.9995)).tolist()
    bins = min(max(len(means) // (2 * FEWEST_BLOCKS), FEWEST_BINS), MOST_BINS)
    edges = np.linspace(darkest, brightest, bins + 1)
    places = np.digitize(means, edges)
    points = []
    for place in range(1, bins + 1):
        inside = places == place
        if inside.sum() < FEWEST_BLOCKS or at_end[inside].mean() > MOST_AT_END:
            continue
        distances = np.abs(variances[inside] - np.median(variances[inside]))
        near = distances <= OUTLIER * MAD_TO_SD * np.median(distances)
        variance = variances[inside][near].mean()
        points.append((float(means[inside].mean()), float(variance), int(inside.sum())))
    if len(points) < 3:
        raise ImageError(
            "the noise cannot be estimated: too few parts of the repeats differ in brightness and are "
            "neither black nor saturated. Give gain, offset and read noise of the camera"
        )
    mean, variance, count = zip(*points, strict=True)
    if max(variance) == 0:
        raise ImageError("the two repeats are the same image: use two acquisitions")
    return PhotonTransfer(_fitted(*map(np.array, (mean, variance, count))), mean, variance, count)


def _fitted(mean: Array, variance: Array, count: Array) -> NoiseModel:
    """Fit a line; the standard error of a mean variance is proportional to the variance itself."""
    least = LEAST * variance.max()
    expected = np.maximum(variance, least)
    for _ in range(REWEIGHTINGS):
        gain, constant = np.polyfit(mean, variance, 1, w=np.sqrt(count) / expected)
        expected = np.maximum(gain * mean + constant, least)
    gain, constant = max(float(gain), 0.0), float(constant)
    offset = -constant / gain if constant < 0 < gain else 0.0
    return NoiseModel(gain, offset, math.sqrt(max(constant + gain * offset, 0.0)))


def photon_transfer_plot(transfer: PhotonTransfer) -> str:
    """Draw variance against mean, and the fitted line, as SVG text."""
    model = transfer.model
    high = 1.05 * transfer.mean[-1]
    xs = np.linspace(0, high, 60).tolist()
    ys = model.variance(np.maximum(xs, model.offset)).tolist()
    plot = svg.plot((0, high), (0, 1.08 * max(*transfer.variance, *ys)), top=68)
    titles = [
        f"mean {x:.4g}: variance {y:.3g}, {n} blocks"
        for x, y, n in zip(transfer.mean, transfer.variance, transfer.count, strict=True)
    ]
    formats = svg.plain, lambda value: svg.plain(1000 * value)
    marks = [
        svg.key([("measured", svg.OURS, ""), (model.text, svg.LIMIT, "none")]),
        svg.axes(plot, "mean, in units of the range", "variance of the noise, in thousandths", formats),
        svg.line(plot, xs, ys, svg.LIMIT),
        svg.points(plot, transfer.mean, transfer.variance, titles, svg.OURS),
    ]
    return svg.document(f"Photon-transfer curve of {len(titles)} points: {model.text}", marks)


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


PooledT = TypeVar("PooledT", bound="Pooled")


class Pooled:
    """Measures of an image; `+` pools those of several."""

    def __add__(self: PooledT, other: PooledT) -> PooledT:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return type(self)(*(one + another for one, another in pairs))


@dataclass(frozen=True)
class Leak(Pooled):
    """How much noise of the repeats b and c an image z carries, x or y_hat.

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
class Correlation(Pooled):
    """How the noise of repeats is correlated between pixels."""

    products: Array
    """Sums of the products of two values of noise, at each offset from -FARTHEST to FARTHEST."""
    squares: Array
    """Sums of the squares of these products."""
    parts: Array
    """Sums of t^2, q and q^2 over each kind of part, such as rows (`parts_of`), t the sum of the noise of a
    part and q of its squares."""

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

        In variances of a sum over independent pixels; 0 below SIGNIFICANT standard errors. The last are those
        of blocks of BLOCK pixels, others of rows, columns and, of volumes, planes.
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
        if self.beyond[:-1].any():
            return FARTHEST + 1
        return int(np.abs(np.argwhere(self.seen > 0) - FARTHEST).max(initial=0)) + 1

    @property
    def reach(self) -> float:
        """The power 1 / axes of the sum of the absolute coefficients seen and of what is beyond; at least 1.

        Its power `axes` bounds the variance of a sum, divided by that of a sum over independent pixels.
        """
        total = float(self.seen.sum() + self.beyond.sum())
        return float(max(total, 1.0) ** (1 / self.seen.ndim))

    @property
    def rounded_reach(self) -> float:
        """The reach with two decimals, rounded up."""
        return math.ceil(100 * self.reach - 1e-9) / 100


def parts_of(axes: int) -> list[tuple[int, ...]]:
    """Return the axes, from 1 on, along which each kind of part of an image extends, see `Correlation`."""
    places = range(1, axes + 1)
    lines = [part for size in range(1, axes) for part in combinations(places, size)]
    return [*lines, tuple(places)]


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
    means = _block_means(b, c)
    if means is None:
        return Drift(1.0, math.inf, 1.0, math.inf)
    parts = np.array_split(np.arange(means.shape[1]), PARTS)
    left_out = _logs_of_gain_and_level([np.delete(means, part, axis=1) for part in parts])
    gain, level = np.exp(_logs_of_gain_and_level([means]))[0].tolist()
    gain_error, level_error = (math.sqrt(PARTS - 1) * left_out.std(axis=0)).tolist()
    shown = _show_gain(means)
    return Drift(gain if shown else 1.0, gain_error if shown else math.inf, level, level_error)


def gain_of(b: Array, c: Array) -> float:
    """Return the gain of `drift` alone: its errors take nearly all of the time."""
    means = _block_means(b, c)
    if means is None or not _show_gain(means):
        return 1.0
    return float(np.exp(_logs_of_gain_and_level([means]))[0, 0])


def without_drift(b: Array, c: Array, gain: float) -> Array:
    """Return c with the brightness of b."""
    return np.asarray((c - c.mean()) / gain + b.mean())


def correlation(b: Array, c: Array) -> Correlation:
    """Correlate the noise b - c of two repeats, each (C, *space), with itself at each offset.

    Slow differences are subtracted before. c has the brightness of b.
    """
    noise = _without_slow_parts(b - c)
    parts = [_sums(noise, axes) for axes in parts_of(noise.ndim - 1)[:-1]]
    parts.append(_sums(*split(noise, BLOCK)))
    squares = noise**2
    return Correlation(_at_offsets(noise, noise), _at_offsets(squares, squares), np.array(parts))


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
    smooth, same_brightness = _smooth_blocks(y_hat), (b, c, without_drift(b, x, gain_of(b, x)), y_hat)
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


def _block_means(b: Array, c: Array) -> Array | None:
    """Return the means of blocks of two repeats, (2, blocks); None if they are too few or not above 0."""
    both = in_blocks(b), in_blocks(c)
    unsaturated = np.maximum(*(values.max(axis=1) for values in both)) < 1
    means = np.stack([values[unsaturated].mean(axis=1, dtype=np.float64) for values in both])
    return means if means.shape[1] >= 2 * PARTS and (means.mean(axis=1) > 0).all() else None


def _show_gain(means: Array) -> bool:
    """Return whether the means of blocks lie along a line."""
    across, along = np.linalg.eigvalsh(np.cov(means))
    return bool(along >= LONG * across)


def _logs_of_gain_and_level(sets: Sequence[Array]) -> Array:
    """Return for each set of means, (2, blocks), the logs of the slope of c on b and of the means' ratio."""
    centres = np.array([means.mean(axis=1) for means in sets])
    parts = [means - centre[:, None] for means, centre in zip(sets, centres, strict=True)]
    across, along = np.linalg.eigh(np.stack([part @ part.T for part in parts]))[1][:, :, -1].T
    gains = np.divide(along, across, out=np.ones(len(sets)), where=across * along > 0)
    return np.asarray(np.log(np.column_stack([gains, centres[:, 1] / centres[:, 0]])))


def _at_offsets(one: Array, other: Array) -> Array:
    """Return the sums of one[i] * other[i + offset], offsets up to a quarter of each axis, else 0."""
    reach = [min(FARTHEST, length // 4) for length in one.shape[1:]]
    lengths = zip(one.shape[1:], reach, strict=True)
    padded = [next_fast_len(length + far, real=True) for length, far in lengths]
    axes = tuple(range(1, one.ndim))
    wave = rfftn(one, padded, axes)
    waves = np.conj(wave) * (wave if other is one else rfftn(other, padded, axes))
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
    if image.shape == shape:
        return image
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


AT_END = 1e-3
"""Share of values at an end of the range above which a reference is called clipped."""
DRIFTED = 0.02
"""Relative difference in brightness between repeats above which it is called drift."""
CLEAR = 7.0
"""Standard errors that drift needs in one image; 16 parts of an image make them uncertain themselves."""
SHARED, VISIBLE = 0.9, 3.0
"""Correlation of one repeat with the noise of the input from which it is the same, and its least z."""
LEAKED, BROKEN = 0.02, 0.1
"""Share of noise in x, or of squared error out of sight, from which a leak is named, and refused."""
OWN = 0.01
"""Share of the noise of x in y_hat whose absence is named if VISIBLE standard errors are below it."""
MOVED, APART = 0.2, 0.5
"""Pixels between the repeats of an image from which they are said to be apart, and are refused."""
MOST = 0.5
"""Share of the images above which the noise of single ones counts."""

REMEDY = (
    "divide frames, counts or acquisitions among x and the repeats, so that none is in two of them, and make "
    "y_hat from x alone"
)
"""What to do about references that are not independent of the network's input and output."""


@dataclass(frozen=True)
class RepeatMeasures:
    """What was measured by comparing the two repeats of an image."""

    drift: Drift
    same: bool
    """Whether the two are one image, perhaps brightened."""
    correlation: Correlation
    shift: Shift
    in_x: Leak | None
    """Their noise in the network's input; None if it has another size or other channels."""
    in_y_hat: Leak
    blocks: Blocks | None = None
    """What the noise is estimated from, where this is an image that it is estimated from."""

    @property
    def moved(self) -> bool:
        """Whether one repeat has clearly moved against the other."""
        return abs(self.shift.pixels) > max(MOVED, CLEAR * self.shift.error)


@dataclass(frozen=True)
class ReferenceMeasures:
    """What was measured of the reference of an image."""

    ends: Ends
    """Shares of values at the ends of the range; if there are two repeats, the larger ones."""
    is_input: bool
    """Whether a repeat is the network's input."""
    shared: SharedNoise | None
    """None if there are two repeats."""
    two: RepeatMeasures | None
    """None if there is one repeat."""


def measure_reference(
    b: Array, x: Array, y_hat: Array, c: Array | None = None, *, with_blocks: bool = False
) -> ReferenceMeasures:
    """Measure the reference b of an image, and its second repeat c if there is one; all are (C, *space)."""
    repeats = [b] if c is None else [b, c]
    at_ends = Ends(*np.max([ends(each, y_hat) for each in repeats], axis=0).tolist())
    is_input = any(np.array_equal(each, x) for each in repeats)
    if c is None:
        return ReferenceMeasures(at_ends, is_input, shared_noise(b, x, y_hat), None)
    drifted, blocks = drift(b, c), noise_blocks(b, c) if with_blocks else None
    c = without_drift(b, c, drifted.gain)
    same = float(_fine(b - c).var()) < ROUNDING * float(_fine(b).var())
    two = RepeatMeasures(drifted, same, correlation(b, c), shift(b, c), *leaks(b, c, x, y_hat), blocks)
    return ReferenceMeasures(at_ends, is_input, None, two)


def pooled_correlation(measures: Iterable[ReferenceMeasures]) -> Correlation | None:
    """Return how the noise of all images with repeats is correlated; None if there are none."""
    correlations = [each.two.correlation for each in measures if each.two is not None]
    return reduce(add, correlations) if correlations else None


def verdicts(measures: Mapping[str, ReferenceMeasures]) -> Iterator[tuple[str, bool]]:
    """Yield what spoils a promise about noisy references, and whether beyond doubt; `measures` are by name.

    How often each is missed, and given without need, was measured by research/repeats.py.
    """
    two = {name: each.two for name, each in measures.items() if each.two is not None}
    yield from _dependence(measures, two)
    yield from ((text, False) for text in _doubts(measures, two))


def _doubts(measures: Mapping[str, ReferenceMeasures], two: Mapping[str, RepeatMeasures]) -> Iterator[str]:
    """Yield what may spoil the noise itself: values cut off, drift, and noise that reaches far."""
    shares = {name: max(each.ends) for name, each in measures.items() if max(each.ends) > AT_END}
    if shares:
        name = max(shares, key=shares.__getitem__)
        yield (
            f"{len(shares)} of {len(measures)} images {verb(len(shares), 'has')} values of the reference "
            f"at an end of the range ({rounded_share(shares[name])} in {name}): noise that is cut off does "
            "not average to 0. Use images that are neither saturated nor cut at black"
        )
    pooled = pooled_correlation(measures.values())
    if pooled is None:
        return
    for what, place in (("gain", 0), ("mean", 2)):
        logs = {name: math.log(each.drift[place]) for name, each in two.items()}
        limits = {name: max(DRIFTED, CLEAR * each.drift[place + 1]) for name, each in two.items()}
        clear = {name: abs(log) for name, log in logs.items() if abs(log) > limits[name]}
        if clear:
            name = max(clear, key=clear.__getitem__)
            yield (
                f"the {what} of the two repeats differs in {len(clear)} of {len(two)} images, by "
                f"{100 * math.expm1(logs[name]):+.0f} % from the first to the second in {name}: did the "
                "lamp drift or the sample bleach? Scale them to one brightness or take them in turns"
            )
            break
    if pooled.range > FARTHEST:
        yield (
            f"the repeats differ by noise that pixels more than {FARTHEST} apart share: did something move "
            "between them, or does the detector add noise to whole rows? By --allowance clt --reach "
            f"{pooled.rounded_reach:g} that of rows is allowed for"
        )


def _dependence(
    measures: Mapping[str, ReferenceMeasures], two: Mapping[str, RepeatMeasures]
) -> Iterator[tuple[str, bool]]:
    """Yield why references are not independent looks at what the input shows, and if that is beyond doubt."""
    n = len(measures)
    same = [name for name, each in measures.items() if each.is_input]
    shared = {name: each.shared for name, each in measures.items() if each.shared is not None}
    alike = {name: size for name, (size, z) in shared.items() if size > SHARED and z > VISIBLE}
    moved = {name: abs(each.shift.pixels) for name, each in two.items() if each.moved}
    if same:
        yield (
            f"{len(same)} of {n} references {verb(len(same), 'is')} the network's input, as in {same[0]}: "
            f"{REMEDY}",
            True,
        )
    elif len(alike) > MOST * n:
        name = max(alike, key=alike.__getitem__)
        text = f"{len(alike)} of {n} references {verb(len(alike), 'has')} the noise of the network's input"
        yield f"{text} (correlation {alike[name]:.2f} in {name}): {REMEDY}", False
    usual = float(np.median([moved.get(name, 0.0) for name in two])) if two else 0.0
    if moved:
        name = max(moved, key=moved.__getitem__)
        text = f"the repeats of {len(moved)} of {n} images are apart, by {moved[name]:.1f} pixels in {name}: "
        yield f"{text}register them by whole pixels, or take them of a sample that is still", usual > APART
    twice = [name for name, each in two.items() if each.same]
    if twice:
        text = f"the two repeats of {len(twice)} of {n} images are the same image, as in {twice[0]}"
        yield f"{text}: use two acquisitions", True
    independent = [each for each in two.values() if usual <= APART and not same and not each.same]
    if independent:
        yield from _leaks(independent)


def _leaks(repeats: Sequence[RepeatMeasures]) -> Iterator[tuple[str, bool]]:
    """Yield that x or y_hat carries noise of the repeats, and whether it is so much that promises break."""
    of_x = [each.in_x for each in repeats if each.in_x is not None]
    in_x, in_y_hat = reduce(add, of_x) if of_x else None, reduce(add, (each.in_y_hat for each in repeats))
    share = 0.0 if in_x is None else _clear_share(in_x)
    if share > LEAKED:
        yield f"x carries {rounded_share(share)} of the noise of the repeats: {REMEDY}", share > BROKEN
    hidden = in_y_hat.hidden(_clear_share(in_y_hat))
    if hidden > LEAKED:
        text = f"y_hat carries noise of the repeats, by which {rounded_share(hidden)} of its squared error is"
        yield f"{text} not seen: {REMEDY}", hidden > BROKEN
    is_repeat = in_x is not None and abs(in_x.z[-1]) < VISIBLE
    lacks = in_y_hat.z[-1] < VISIBLE and VISIBLE * in_y_hat.errors[-1] < OWN
    if is_repeat and lacks and max(share, hidden) <= LEAKED:
        yield f"y_hat carries no more of the noise of x than of that of the repeats: {REMEDY}", False


def _clear_share(leak: Leak) -> float:
    """Return the share of the noise of one repeat, or of both, that an image clearly carries; 0 if none."""
    return float(np.where(leak.z > CLEAR, leak.shares, 0.0)[:2].max())


def reach_shown(correlation: Correlation, allowance: Allowance) -> float:
    """Return the reach that an allowance needs for noise correlated in this way, see `CleanMean`."""
    if allowance != "exact":
        return correlation.rounded_reach
    if correlation.range > FARTHEST:
        raise InvalidArgumentError(
            f"pixels more than {FARTHEST} apart share noise of the repeats, so that no allowance is exact: "
            "take allowance clt"
        )
    return correlation.range
