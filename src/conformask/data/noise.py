"""The noise of images that were taken twice: how it grows with brightness, as a photon-transfer curve."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from conformask.errors import ImageError
from conformask.pictures import svg
from conformask.records.reference import NoiseModel
from conformask.storage.as_arrays import Array

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

Pair = tuple[Array, Array]
"""Two repeats b and c of one image, each (C, *space) in [0, 1]."""


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


def estimate_noise(pairs: Iterable[Pair], offset: float | None = None) -> PhotonTransfer:
    """Measure the noise of images by two repeats of each.

    In a block of pixels the variance of (b - c) / sqrt(2) is the mean variance of its pixels, whatever the
    image shows, and a linear model of it is one of the block's mean. Blocks are gathered by that mean. Left
    out are intervals with values at an end of the range, and blocks whose variance lies far from that of
    others as bright, where something moved. Noise that neighbouring pixels share is slightly underestimated.

    The line through the points gives the gain and read**2 - gain * offset. `offset`, the mean of a dark
    image, separates the two; without it the offset is 0, or the read noise is 0 if the line demands an
    offset. The variances are the same. Pixels without a photon in a detector without an offset count as
    clipped: of such images only the brighter parts are used.

    Raises:
        ImageError: the repeats differ in size or not at all, or vary too little in brightness for a line.
    """
    means, variances, at_end = (np.concatenate(parts) for parts in zip(*map(_measured, pairs), strict=True))
    darkest, brightest = np.quantile(means, (0.0005, 0.9995)).tolist()
    bins = min(max(len(means) // (2 * FEWEST_BLOCKS), FEWEST_BINS), MOST_BINS)
    edges = np.linspace(darkest, brightest, bins + 1)
    places = np.digitize(means, edges)
    points = []
    for place in range(1, bins + 1):
        inside = places == place
        if inside.sum() < FEWEST_BLOCKS or at_end[inside].mean() > MOST_AT_END:
            continue
        variance = variances[inside][_without_outliers(variances[inside])].mean()
        points.append((float(means[inside].mean()), float(variance), int(inside.sum())))
    if len(points) < 3:
        raise ImageError(
            "the noise cannot be estimated: too few parts of the repeats differ in brightness and are "
            "neither black nor saturated. Give gain, offset and read noise of the camera"
        )
    mean, variance, count = zip(*points, strict=True)
    if max(variance) == 0:
        raise ImageError("the two repeats are the same image: use two acquisitions")
    model = _fitted(np.array(mean), np.array(variance), np.array(count), offset)
    return PhotonTransfer(model, mean, variance, count)


def _measured(pair: Pair) -> tuple[Array, Array, Array]:
    """Return mean, variance and share of values at an end of the range of each block."""
    b, c = pair
    if b.shape != c.shape:
        raise ImageError(f"repeats of {b.shape} and {c.shape}: they must have one size")
    both = in_blocks(b), in_blocks(c)
    at_end = sum(((values <= 0) | (values >= 1)).mean(axis=1) for values in both) / 2
    return (both[0] + both[1]).mean(axis=1) / 2, (both[0] - both[1]).var(axis=1, ddof=1) / 2, at_end


def _without_outliers(values: Array) -> Array:
    """Return which values are within OUTLIER robust standard deviations of the median."""
    distances = np.abs(values - np.median(values))
    return np.asarray(distances <= OUTLIER * MAD_TO_SD * np.median(distances))


def _fitted(mean: Array, variance: Array, count: Array, offset: float | None) -> NoiseModel:
    """Fit a line; the standard error of a mean variance is proportional to the variance itself."""
    least = LEAST * variance.max()
    expected = np.maximum(variance, least)
    for _ in range(REWEIGHTINGS):
        gain, constant = np.polyfit(mean, variance, 1, w=np.sqrt(count) / expected)
        expected = np.maximum(gain * mean + constant, least)
    gain = max(float(gain), 0.0)
    if offset is None:
        offset = -float(constant) / gain if constant < 0 < gain else 0.0
    return NoiseModel(gain, offset, math.sqrt(max(float(constant) + gain * offset, 0.0)))


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
