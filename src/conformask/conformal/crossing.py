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
