"""Masked error and mask size of one image at a whole grid of levels, in one pass over its pixels."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from torch import Tensor

from conformask.masks.kernels import NEGLIGIBLE, pairs
from conformask.storage.as_arrays import Array


def binned(keys: Array, edges: Array, *weights: Array, side: Literal["left", "right"]) -> Array:
    """Sum weights by the number of edges below a key ("left") or not above it ("right").

    edges (G,) are ascending; keys and weights (n,); returns (len(weights), G + 1).
    """
    place = np.searchsorted(edges, keys, side=side)
    return np.array([np.bincount(place, weight, minlength=len(edges) + 1) for weight in weights])


def saturating_curve(
    keys: Array, error: Array, edges: Array, power: float, exponent: float
) -> tuple[Array, Array]:
    """Return (distance, size) of the masks min(1, (edge / key)^power), each (G,); 0 at edge 0.

    distance = mean(mask^exponent * error); keys and error (n,), edges (G,) ascending from 0 to inf. Pixels
    beyond an edge are summed from the far end, so that the steep slopes of small keys do not drown them in
    rounding. Sums at an edge do not depend on the other edges, so that equal images have equal sizes on any
    grid.
    """
    scale = keys.max() or 1.0
    tiny = (keys / scale) ** (power * exponent) <= NEGLIGIBLE
    ratio = np.where(tiny, np.inf, keys / scale)
    slopes = error * ratio ** -(power * exponent), ratio**-power
    full = binned(keys, edges, error, np.ones(len(keys)), side="left").cumsum(axis=1)[:, :-1]
    beyond = binned(keys, edges, *slopes, side="left")[:, ::-1].cumsum(axis=1)[:, -2::-1]
    reach = np.minimum(edges / scale, 1.0)
    shown = full + beyond * np.stack([reach ** (power * exponent), reach**power])
    if tiny.any():
        shown[0] += _tiny_beyond(keys[tiny], error[tiny], edges, power * exponent)
        shown[1] += _tiny_beyond(keys[tiny], np.ones(tiny.sum()), edges, power)
    distance, size = shown[0] / len(keys), 1 - shown[1] / len(keys)
    return np.where(edges > 0, distance, 0.0), np.where(edges > 0, size.clip(0, 1), 1.0)


def _tiny_beyond(keys: Array, weight: Array, edges: Array, power: float) -> Array:
    """Sum weight * (edge / key)^power over the keys above each edge, (G,), whose slopes would overflow.

    Each key is related to the edge below it, and each edge hands its sum down to the one below: all factors
    are at most 1.
    """
    below = np.concatenate([[0.0], edges])
    place = np.searchsorted(edges, keys, side="left")
    dimmed = weight * np.divide(below[place], keys, out=np.zeros(len(keys)), where=keys > 0) ** power
    own = np.bincount(place, dimmed, minlength=len(below))[1:]
    steps = np.divide(edges[:-1], edges[1:], out=np.ones(len(edges) - 1), where=edges[:-1] < edges[1:])
    sums, total = np.zeros(len(edges)), 0.0
    for edge in range(len(edges) - 1, -1, -1):
        total = own[edge] + (total * steps[edge] ** power if edge < len(steps) else 0.0)
        sums[edge] = total
    return sums


def boundary_curve(
    keys: Array, error: Array, edges: Array, fractions: Array, exponent: float
) -> tuple[Array, Array]:
    """Return (distance, size) of masks that are 1 below an edge, the fraction at it, 0 above; each (G,)."""
    weights = error, np.ones(len(keys))
    error_below, below = binned(keys, edges, *weights, side="right").cumsum(axis=1)[:, :-1]
    error_within, within = binned(keys, edges, *weights, side="left").cumsum(axis=1)[:, :-1]
    distance = error_below + fractions**exponent * (error_within - error_below)
    opened = below + fractions * (within - below)
    return distance / len(keys), 1 - opened / len(keys)


def of_each_image(
    score: Tensor, error: Tensor, levels: Array, curve: Callable[[Array, Array, Array], tuple[Array, Array]]
) -> tuple[Array, Array]:
    """Return (distance, size), each (N, G), of curve(score float64, error, level) for each image.

    Raises:
        InvalidArgumentError: shapes differ, or a score or error is negative, NaN or infinite.
    """
    curves = [
        curve(s.astype(np.float64), e, level)
        for (s, e), level in zip(pairs(score, error, 0.0), levels, strict=True)
    ]
    return np.stack([distance for distance, _ in curves]), np.stack([size for _, size in curves])
