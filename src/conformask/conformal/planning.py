"""How many calibration images a promise needs, and how far coverage will fluctuate."""

from dataclasses import dataclass

from conformask.conformal.order import coverage_range
from conformask.conformal.promise import Promise

SIZES = (1, 2, 5, 10, 20, 50)
"""Multiples of the smallest set that a plan lists."""


@dataclass(frozen=True)
class Prospect:
    """What n calibration images would give."""

    n: int
    coverage: tuple[float, float] | None
    """Where coverage lies for nine calibration sets of ten; None where n is too few or no law is known."""


@dataclass(frozen=True)
class CalibrationPlan:
    """What a promise needs."""

    n_calibration: int
    """The smallest calibration set that can give it."""
    unit: str
    """What is counted: images, groups, ..."""
    prospects: tuple[Prospect, ...]


def plan(
    promise: Promise, threshold: float | None = None, upper_bound: float | None = None, n: int | None = None
) -> CalibrationPlan:
    """The smallest calibration set, and coverage for it and larger ones (or for n).

    Raises:
        InvalidArgumentError: a promise about a mean without a threshold.
    """
    smallest = promise.smallest_calibration_set(threshold, upper_bound)
    sizes = [smallest * factor for factor in SIZES] if n is None else [n]
    prospects = tuple(
        Prospect(size, None if size < smallest else coverage_range(size, promise.rank(size)))
        for size in sizes
    )
    return CalibrationPlan(smallest, promise.plural, prospects)
