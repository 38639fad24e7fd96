"""Theorems applied to groups that are exchangeable or independent, each reduced to one unit."""

from dataclasses import dataclass

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.procedures.conformal_risk_control import ConformalRiskControl
from conformask.conformal.procedures.learn_then_test import LearnThenTest
from conformask.conformal.procedures.rcps import RCPS
from conformask.conformal.procedures.split_conformal import SplitConformal
from conformask.conformal.procedures.weighted_conformal import WeightedConformal
from conformask.conformal.rules import Rule
from conformask.conformal.units import Group, ImageOfNewGroup

INNER = (SplitConformal, LearnThenTest, WeightedConformal, ConformalRiskControl, RCPS)
"""Theorems that hold for any units that are exchangeable, or independent where they require it."""


@dataclass(frozen=True)
class PerGroup:
    """A theorem about units, applied to whole groups, whatever their sizes."""

    unit: Group | ImageOfNewGroup
    inner: SplitConformal | LearnThenTest | WeightedConformal | ConformalRiskControl | RCPS

    @property
    def on_grid(self) -> bool:
        """True if lambda is a point of the grid, as for the inner theorem."""
        return self.inner.on_grid

    @property
    def reads(self) -> frozenset[str]:
        """The columns of the inner theorem, without the bound of an image, and the group."""
        return (self.inner.reads - {"bound_curve"}) | self.unit.reads

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest number of units."""
        return self.inner.smallest_calibration_set(threshold, upper_bound)

    def rank(self, n: int) -> int | None:
        """Return the rank among n units."""
        return self.inner.rank(n)

    def rule(self, evidence: CalibrationData) -> Rule:
        """Return the rule for the units."""
        return self.inner.rule(self.unit.reduce(evidence))
