"""Statistics of test images: means, correlations, ratios and differences, with 95 % intervals."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from conformask.types import Array

DRAWS = 2000
LEVEL = 0.95
FEWEST = 3


@dataclass(frozen=True)
class Estimate:
    """A number and its bootstrap interval over images; NaN where it does not exist."""

    value: float
    low: float
    high: float

    @property
    def exists(self) -> bool:
        """True if the number exists."""
        return bool(np.isfinite(self.value))


NOTHING = Estimate(np.nan, np.nan, np.nan)


def mean(values: Array) -> Estimate:
    """Estimate the mean of the finite values."""
    return _estimate(lambda columns: columns[0].mean(axis=-1), values)


def correlation(a: Array, b: Array) -> Estimate:
    """Estimate Pearson's r where both are known; not known for fewer than three images or a constant."""
    finite = np.isfinite(a) & np.isfinite(b)
    if finite.sum() < FEWEST or np.ptp(a[finite]) == 0 or np.ptp(b[finite]) == 0:
        return NOTHING
    return _estimate(_pearson, a, b)


def ratio(a: Array, b: Array) -> Estimate:
    """Estimate mean a / mean b over the images where both are known."""
    return _estimate(lambda columns: columns[0].mean(axis=-1) / columns[1].mean(axis=-1), a, b)


def difference(a: Array, b: Array) -> Estimate:
    """Estimate mean a - mean b, paired by image."""
    return mean(a - b)


def significant(estimate: Estimate) -> bool:
    """Return whether the interval of a difference excludes 0."""
    return estimate.exists and not estimate.low <= 0 <= estimate.high


def _estimate(measure: Callable[[tuple[Array, ...]], Array], *columns: Array) -> Estimate:
    finite = np.logical_and.reduce([np.isfinite(column) for column in columns])
    finite_columns = [column[finite] for column in columns]
    n = len(finite_columns[0])
    if n == 0:
        return NOTHING
    draws = np.random.default_rng(0).integers(n, size=(DRAWS, n))
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(measure(tuple(finite_columns)))
        resampled = measure(tuple(column[draws] for column in finite_columns))
    resampled = resampled[np.isfinite(resampled)]
    if len(resampled) == 0 or not np.isfinite(value):
        return NOTHING
    tail = (1 - LEVEL) / 2
    return Estimate(value, float(np.quantile(resampled, tail)), float(np.quantile(resampled, 1 - tail)))


def _pearson(columns: tuple[Array, ...]) -> Array:
    a, b = (column - column.mean(axis=-1, keepdims=True) for column in columns)
    covariance = (a * b).sum(axis=-1)
    return np.asarray(covariance / np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1)))
