"""Critical lambdas on a fixed grid: the first crossing of the threshold."""

from typing import Any

import numpy as np
from jaxtyping import Float

SLACK = 1e-6
"""Success is distance <= threshold * (1 + SLACK), so that exact solutions, on the threshold, count."""


def passes(distance: Float[np.ndarray, "..."], threshold: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where a masked distance meets the threshold."""
    return np.asarray(distance <= threshold * (1 + SLACK))


def first_crossing(
    grid: Float[np.ndarray, "g"], distance: Float[np.ndarray, "n g"], threshold: float
) -> Float[np.ndarray, "n"]:
    """The largest grid point up to which every point passes; 0 if the first positive one fails.

    The largest point that passes is not enough for a distance that is not monotone: lambdas below it may
    fail, and a smaller one than an image's own is what gets deployed.
    """
    failing = ~passes(distance, threshold)
    failing[:, 0] = False
    first = np.where(failing.any(axis=1), failing.argmax(axis=1), len(grid))
    return np.asarray(grid[np.maximum(first - 1, 0)], dtype=np.float64)


def between_grid_points(
    grid: Float[np.ndarray, "g"], distance: Float[np.ndarray, "n g"], threshold: float
) -> Float[np.ndarray, "n"]:
    """Where a straight line from the last passing point meets the threshold: finer, but no critical lambda.

    0 and inf where first_crossing gives them, and the last passing point where the next is inf.
    """
    passed = np.searchsorted(grid, first_crossing(grid, distance, threshold))
    following = np.minimum(passed + 1, len(grid) - 1)
    rows = np.arange(len(distance))
    low, high = distance[rows, passed], distance[rows, following]
    share = np.clip((threshold - low) / np.maximum(high - low, np.finfo(float).tiny), 0, 1)
    found, end = grid[passed], grid[following]
    between = (passed > 0) & np.isfinite(end)
    found[between] += share[between] * (end[between] - found[between])
    return np.asarray(found, dtype=np.float64)
