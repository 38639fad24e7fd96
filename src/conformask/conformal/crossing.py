"""Critical lambdas on a fixed grid: the first crossing of the threshold."""

from typing import Any

import numpy as np
from jaxtyping import Float

SLACK = 1e-6
"""Success is distance <= threshold * (1 + SLACK), so that exact solutions, on the threshold, count."""
REFINED = 24
"""Points that a refined grid has more."""
SPREAD = 3.0
"""Standard errors within which they lie."""


def passes(distance: Float[np.ndarray, "..."], threshold: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where a loss meets the threshold."""
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
    crossings, end = grid[passed], grid[following]
    between = (passed > 0) & np.isfinite(end)
    crossings[between] += share[between] * (end[between] - crossings[between])
    return np.asarray(crossings, dtype=np.float64)


def refined(
    grid: Float[np.ndarray, "g"], critical: Float[np.ndarray, "n"], confidence: float
) -> Float[np.ndarray, "h"]:
    """The grid and up to REFINED points more, where the lambda of this confidence is likely to lie.

    critical are those of other images than the calibration's. The points are quantiles of them, within SPREAD
    standard errors of 1 - confidence, so that from one point to the next few images are lost.
    """
    half = SPREAD * np.sqrt(confidence * (1 - confidence) / len(critical))
    shares = np.linspace(max(1 - confidence - half, 0), min(1 - confidence + half, 1), REFINED)
    points = np.quantile(np.clip(critical, grid[1], grid[-2]), shares)
    return np.union1d(grid, points)
