"""Regression on a few dozen rows: kernel ridge with a Gaussian kernel, chosen by leaving groups out.

Far from the rows it was fitted on, the prediction returns to their mean: it never extrapolates.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

WIDTHS = (0.1, 0.3, 1.0)
"""Factors on the mean squared difference of standardised features, in the exponent of the kernel."""
PENALTIES = np.logspace(-3, 3, 13)
"""Penalties that are tried, in units of the kernel at distance 0."""
PAYS = 0.8
"""Largest share of the error of one value for all rows with which a function is chosen.

A smaller gain may be that of having tried many functions.
"""
EVEN = 1e-9
"""Standard deviation below which a feature is the same in all rows."""


@dataclass(frozen=True)
class KernelRidge:
    """The function sum_i weights_i exp(-width / 2 * mean((f - points_i)^2)) of standardised features f."""

    centre: Float[np.ndarray, "f"]
    scale: Float[np.ndarray, "f"]
    points: Float[np.ndarray, "m f"]
    """Standardised features of the rows it was fitted on."""
    weights: Float[np.ndarray, "m"]
    width: float


def fitted(
    features: Float[np.ndarray, "m f"],
    target: Float[np.ndarray, "m"],
    groups: Shaped[np.ndarray, "m"],
    counted: Bool[np.ndarray, "m"],
) -> tuple[KernelRidge, Float[np.ndarray, "m"]]:
    """Fit the width and penalty that predict the counted rows best, each without the rows of its group.

    It is one value for all rows, without weights, unless the error is at most PAYS of that of one value.
    Returns the function, and its prediction for each row if the rows of its group are left out, both relative
    to the mean of the target.
    """
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > EVEN, scale, 1.0)
    points, target = (features - centre) / scale, target - target.mean()
    _, group = np.unique(groups, return_inverse=True)
    rows_of = [np.flatnonzero(group == each) for each in range(int(group.max()) + 1)]
    constant = np.zeros(len(target)), WIDTHS[0], _means_of_others(target, rows_of)
    candidates = [constant, *_candidates(points, target, rows_of)]
    errors = np.array([((left_out - target)[counted] ** 2).mean() for *_, left_out in candidates])
    errors[1:] /= PAYS
    weights, width, left_out = candidates[int(np.argmin(errors))]
    return KernelRidge(centre, scale, points, weights, width), left_out


def _candidates(
    points: Float[np.ndarray, "m f"], target: Float[np.ndarray, "m"], rows_of: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, float, np.ndarray]]:
    """Yield weights, width and predictions without each group's rows, for all widths and penalties.

    With A = (K + penalty)^-1, the rows B of a group have target - (A_BB)^-1 (A target)_B without it.
    """
    for width in WIDTHS:
        values, vectors = np.linalg.eigh(_kernel(points, points, width))
        for penalty in PENALTIES:
            inverse = (vectors / (values.clip(min=0) + penalty)) @ vectors.T
            weights = inverse @ target
            left_out = target.copy()
            for rows in rows_of:
                left_out[rows] -= np.linalg.solve(inverse[np.ix_(rows, rows)], weights[rows])
            yield weights, width, left_out


def _means_of_others(target: Float[np.ndarray, "m"], rows_of: list[np.ndarray]) -> Float[np.ndarray, "m"]:
    """Return for each row the mean of the rows of other groups; of all if there is one group."""
    means = np.full(len(target), target.mean())
    for rows in rows_of if len(rows_of) > 1 else []:
        means[rows] = (target.sum() - target[rows].sum()) / (len(target) - len(rows))
    return means


def _kernel(
    features: Float[np.ndarray, "n f"], points: Float[np.ndarray, "m f"], width: float
) -> Float[np.ndarray, "n m"]:
    squares = (features**2).sum(axis=1)[:, None] + (points**2).sum(axis=1) - 2 * features @ points.T
    return np.asarray(np.exp(-width / 2 * squares.clip(min=0) / points.shape[1]))
