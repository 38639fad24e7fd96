"""Statistics of test images: means, correlations, ratios and differences, with 95 % intervals."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy

from conformask.promises import intervals
from conformask.records.record import Array


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
    return _estimate(lambda a: a.mean(axis=-1), values)


def correlation(a: Array, b: Array) -> Estimate:
    """Estimate Pearson's r where both are known; not known for fewer than three images or a constant."""
    return NOTHING if intervals.correlation(a, b) is None else _estimate(_pearson, a, b)


def ratio(a: Array, b: Array) -> Estimate:
    """Estimate mean a / mean b over the images where both are known."""
    return _estimate(lambda a, b: a.mean(axis=-1) / b.mean(axis=-1), a, b)


def difference(a: Array, b: Array) -> Estimate:
    """Estimate mean a - mean b, paired by image."""
    return mean(a - b)


def significant(estimate: Estimate) -> bool:
    """Return whether the interval of a difference excludes 0."""
    return estimate.exists and not estimate.low <= 0 <= estimate.high


def _estimate(measure: Callable[..., Array], *columns: Array) -> Estimate:
    finite = np.logical_and.reduce([np.isfinite(column) for column in columns])
    finite_columns = [column[finite] for column in columns]
    if not finite.any():
        return NOTHING
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(measure(*finite_columns))
        drawn = intervals.resampled(measure, *finite_columns)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) == 0 or not np.isfinite(value):
        return NOTHING
    return Estimate(value, *intervals.percentiles(drawn))


def _pearson(a: Array, b: Array) -> Array:
    with warnings.catch_warnings(action="ignore", category=scipy.stats.ConstantInputWarning):  # NaN then
        return np.asarray(scipy.stats.pearsonr(a, b, axis=-1).statistic)
