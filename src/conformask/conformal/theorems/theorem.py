"""What a theorem is to a promise."""

from typing import Protocol, runtime_checkable

from conformask.conformal.evidence import Evidence
from conformask.conformal.rules import Rule


@runtime_checkable
class Theorem(Protocol):
    """Turns what calibration images say into a rule that keeps a promise."""

    @property
    def on_grid(self) -> bool:
        """Whether lambda is a point of the grid, also where critical lambdas are exact."""

    @property
    def reads(self) -> frozenset[str]:
        """What it reads of each image: group, category, weight, features, or its bound_curve."""

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """The smallest number of units that can do.

        threshold, and the constant upper bound of the distance, matter for promises about a mean.
        """

    def rank(self, n: int) -> int | None:
        """Which of n critical lambdas, ascending, is deployed; None where it is not one of them.

        Coverage then has a known law: see `order.coverage_range` and `law.met_law`.
        """

    def rule(self, evidence: Evidence) -> Rule:
        """The rule; it is void, and masks everything, where the promise cannot be given."""
