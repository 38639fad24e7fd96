"""Planning: how many calibration images a promise needs, and how far coverage will vary."""

from dataclasses import dataclass

from conformask.conformal.guarantee import Guarantee
from conformask.conformal.order import coverage_range

SIZES = (1, 2, 5, 10, 20, 50)
"""Multiples of the smallest set that a plan lists."""


@dataclass(frozen=True)
class Prospect:
    """The expected coverage with n calibration images."""

    n: int
    coverage: tuple[float, float] | None
    """The range of coverage for 90 % of calibration sets; None if n is too small or no law is known."""


@dataclass(frozen=True)
class CalibrationPlan:
    """The number of calibration units that a promise needs."""

    n_calibration: int
    """The smallest calibration set that supports the promise."""
    unit: str
    """The unit counted: images, groups, ..."""
    prospects: tuple[Prospect, ...]


def plan(
    promise: Guarantee, threshold: float | None = None, upper_bound: float | None = None, n: int | None = None
) -> CalibrationPlan:
    """Return the smallest calibration set, and coverage for it and larger ones (or for n).

    Raises:
        InvalidArgumentError: a promise about a mean without a threshold.
    """
    smallest_size = promise.smallest_calibration_set(threshold, upper_bound)
    sizes = [smallest_size * factor for factor in SIZES] if n is None else [n]
    prospects = tuple(
        Prospect(size, None if size < smallest_size else coverage_range(size, promise.rank(size)))
        for size in sizes
    )
    return CalibrationPlan(smallest_size, promise.plural, prospects)
