"""Masked error and mask size of one image at a whole grid of levels, in one pass over its pixels."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from conformask.masks.kernels import NEGLIGIBLE, compiled, pairs
from conformask.storage.as_arrays import Array


@compiled
def places_of(keys: Array, edges: Array, closed: bool) -> Array:
    """Return the number of ascending edges below each key, or if `closed` not above it; as np.searchsorted.

    All keys take a step of the bisection before any takes the next: several times faster, without branches.
    """
    places, length = np.zeros(keys.size, np.int64), edges.size
    while length > 0:
        half = (length + 1) // 2
        ahead = edges[half - 1 :]
        for i in range(keys.size):
            edge = ahead[places[i]]
            places[i] += half if edge < keys[i] or (closed and edge == keys[i]) else 0
        length -= half
    return places


def binned(keys: Array, edges: Array, *weights: Array, closed: bool = False) -> Array:
    """Sum weights by the number of edges below a key, or if `closed` not above it.

    edges (G,) are ascending; keys and weights (n,); returns (len(weights), G + 1).
    """
    places = places_of(keys, edges, closed)
    return np.array([np.bincount(places, weight, minlength=len(edges) + 1) for weight in weights])


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
    sums = binned(keys, edges, error, np.ones(len(keys)), *slopes)
    full, beyond = sums[:2].cumsum(axis=1)[:, :-1], sums[2:, ::-1].cumsum(axis=1)[:, -2::-1]
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
    error_below, below = binned(keys, edges, *weights, closed=True).cumsum(axis=1)[:, :-1]
    if not fractions.any():
        return error_below / len(keys), 1 - below / len(keys)
    error_within, within = binned(keys, edges, *weights).cumsum(axis=1)[:, :-1]
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
