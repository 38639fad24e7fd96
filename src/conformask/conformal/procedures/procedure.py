"""The protocol of a theorem behind a promise."""

from typing import Protocol, runtime_checkable

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.rules import Rule


@runtime_checkable
class Procedure(Protocol):
    """Makes a rule that keeps a promise from the evidence of calibration images."""

    @property
    def on_grid(self) -> bool:
        """True if lambda is a point of the grid, even where critical lambdas are exact."""

    @property
    def reads(self) -> frozenset[str]:
        """The columns read for each image: group, category, weight, features, or its bound_curve."""

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest number of units that can suffice.

        The threshold and the constant upper bound of the loss matter for promises about a mean.
        """

    def rank(self, n: int) -> int | None:
        """Return which of n ascending critical lambdas is deployed; None where it is not one of them.

        If there is a rank, coverage has a known law: see `order.coverage_range` and `law.met_tails`.
        """

    def rule(self, evidence: CalibrationData) -> Rule:
        """Return the rule; it is void, and masks everything, where the promise cannot be given."""
