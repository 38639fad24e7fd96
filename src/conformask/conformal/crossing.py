"""Critical lambdas on a fixed grid: the first crossing of the threshold."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from conformask.conformal.order import ROUNDING

SLACK = 1e-6
"""Relative tolerance: a loss up to threshold * (1 + SLACK) meets it, so that exact solutions count."""
REFINED = 24
"""Largest number of points added to a refined grid."""
SPREAD = 3.0
"""Number of standard errors within which the added points lie."""


def meets_threshold(
    losses: Float[np.ndarray, "..."], threshold: float
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return where a loss meets the threshold."""
    return np.asarray(losses <= threshold * (1 + SLACK))


def first_crossing(
    grid: Float[np.ndarray, "g"], losses: Float[np.ndarray, "n g"], threshold: float
) -> Float[np.ndarray, "n"]:
    """Return the largest grid point up to which every point passes; 0 if the first positive one fails.

    The largest point that passes would not be enough for a loss that is not monotone: smaller lambdas may
    fail, and a lambda smaller than the image's own is deployed.
    """
    failing = ~meets_threshold(losses, threshold)
    failing[:, 0] = False
    first = np.where(failing.any(axis=1), failing.argmax(axis=1), len(grid))
    return np.asarray(grid[np.maximum(first - 1, 0)], dtype=np.float64)


def between_grid_points(
    grid: Float[np.ndarray, "g"], losses: Float[np.ndarray, "n g"], threshold: float
) -> Float[np.ndarray, "n"]:
    """Interpolate from the last passing point to where the threshold is met: finer, but not critical.

    The result is 0 or inf where first_crossing gives it, and the last passing point where the next is inf.
    """
    last_passing = np.searchsorted(grid, first_crossing(grid, losses, threshold))
    next_points = np.minimum(last_passing + 1, len(grid) - 1)
    rows = np.arange(len(losses))
    low, high = losses[rows, last_passing], losses[rows, next_points]
    share = np.clip((threshold - low) / np.maximum(high - low, np.finfo(float).tiny), 0, 1)
    crossings, end = grid[last_passing], grid[next_points]
    between = (last_passing > 0) & np.isfinite(end)
    crossings[between] += share[between] * (end[between] - crossings[between])
    return np.asarray(crossings, dtype=np.float64)


def best_start(
    grid: Float[np.ndarray, "g"],
    losses: Float[np.ndarray, "n g"],
    hidden: Float[np.ndarray, "g"],
    threshold: float,
    confidence: float,
) -> float:
    """Return the grid point from which on a loss relative to what is shown is looked at.

    Where little is shown, a few pixels or objects decide, and first crossings from 0 on end there. An image
    that fails at the start has the critical lambda 0. The start is where the lambdas that the first crossings
    from there on give hide least, on average over the numbers of failures that the confidence allows: at one
    number alone, a start would be chosen at which many other images fail. It is valid if these are no
    calibration images.

    Args:
        grid: 0, lambdas in ascending order, and inf.
        losses: the losses of the images at these.
        hidden: the mean hidden share at these.
        threshold: the largest loss wanted.
        confidence: the share of images that are to be within it.
    """
    allowed = max(1, math.floor((1 - confidence) * (len(losses) + 1) + ROUNDING))
    points = np.arange(len(grid))
    failing = np.where(meets_threshold(losses, threshold), len(grid), points)
    first = np.minimum.accumulate(failing[:, ::-1], axis=1)[:, ::-1]  # from each point on
    before = np.sort(np.where(first == points, 0, first - 1), axis=0)[:allowed]
    starts = points[1:-1]
    return float(grid[starts[np.argmin(hidden[before].mean(axis=0)[starts])]])


def refined(
    grid: Float[np.ndarray, "g"], critical: Float[np.ndarray, "n"], confidence: float
) -> Float[np.ndarray, "h"]:
    """Return the grid with up to REFINED more points where the lambda of this confidence is likely to be.

    `critical` are critical lambdas of images other than the calibration's. The points are quantiles of them,
    within SPREAD standard errors of 1 - confidence, so that few images are lost from one point to the next.
    """
    # the binomial standard error of the share of images below the deployed lambda
    half = SPREAD * np.sqrt(confidence * (1 - confidence) / len(critical))
    shares = np.linspace(max(1 - confidence - half, 0), min(1 - confidence + half, 1), REFINED)
    points = np.quantile(np.clip(critical, grid[1], grid[-2]), shares)
    return np.union1d(grid, points)
