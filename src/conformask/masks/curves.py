"""Masked error and mask size of one image at a whole grid of levels, in one pass over its pixels."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from torch import Tensor

from conformask.masks.kernels import Array, pairs


def binned(keys: Array, edges: Array, *weights: Array, side: Literal["left", "right"]) -> Array:
    """Sums of weights by how many edges lie below a key ("left") or not above it ("right").

    edges (G,) are ascending; keys and weights (n,); returns (len(weights), G + 1).
    """
    place = np.searchsorted(edges, keys, side=side)
    return np.array([np.bincount(place, weight, minlength=len(edges) + 1) for weight in weights])


def saturating_curve(
    keys: Array, error: Array, edges: Array, power: float, exponent: float
) -> tuple[Array, Array]:
    """(distance, size) of the masks min(1, (edge / key)^power), each (G,); 0 where the edge is 0.

    distance = mean(mask^exponent * error); keys and error (n,), edges (G,) ascending from 0 to inf.
    """
    ones = np.ones(len(keys))
    full = binned(keys, edges, error, ones, side="left").cumsum(axis=1)[:, :-1]
    distance = (full[0] + _beyond(keys, error, edges, power * exponent)) / len(keys)
    size = 1 - (full[1] + _beyond(keys, ones, edges, power)) / len(keys)
    return np.where(edges > 0, distance, 0.0), np.where(edges > 0, size.clip(0, 1), 1.0)


def _beyond(keys: Array, weight: Array, edges: Array, power: float) -> Array:
    """sum(weight * (edge / key)^power) of the keys above each edge, (G,).

    Keys count from the edge below them, and each edge hands its sum down to the one below: all factors are
    at most 1, so that no slope overflows, however small a key and large the power.
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
    """(distance, size) of the masks that are 1 below an edge, the fraction at it and 0 above, each (G,)."""
    weights = error, np.ones(len(keys))
    error_below, below = binned(keys, edges, *weights, side="right").cumsum(axis=1)[:, :-1]
    error_within, within = binned(keys, edges, *weights, side="left").cumsum(axis=1)[:, :-1]
    distance = error_below + fractions**exponent * (error_within - error_below)
    opened = below + fractions * (within - below)
    return distance / len(keys), 1 - opened / len(keys)


def of_each_image(
    score: Tensor, error: Tensor, levels: Array, curve: Callable[[Array, Array, Array], tuple[Array, Array]]
) -> tuple[Array, Array]:
    """(distance, size), each (N, G): curve(score float64, error, level) of each image's pixels and levels.

    Raises:
        InvalidArgumentError: shapes differ, or a score or error is negative, NaN or infinite.
    """
    curves = [
        curve(s.astype(np.float64), e, level)
        for (s, e), level in zip(pairs(score, error, 0.0), levels, strict=True)
    ]
    return np.stack([distance for distance, _ in curves]), np.stack([size for _, size in curves])
