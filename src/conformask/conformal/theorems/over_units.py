"""Theorems applied to groups that are exchangeable or independent, each reduced to one unit."""

from dataclasses import dataclass

from conformask.conformal.evidence import Evidence
from conformask.conformal.rules import Rule
from conformask.conformal.theorems.fixed_sequence import FixedSequence
from conformask.conformal.theorems.likelihood_ratio import LikelihoodRatio
from conformask.conformal.theorems.ranked import Ranked
from conformask.conformal.theorems.risk_bound import RiskBound
from conformask.conformal.theorems.risk_control import RiskControl
from conformask.conformal.units import Group, Member

INNER = (Ranked, FixedSequence, LikelihoodRatio, RiskControl, RiskBound)
"""Theorems that hold for any units that are exchangeable, or independent where they require it."""


@dataclass(frozen=True)
class OverUnits:
    """A theorem about units, applied to whole groups, whatever their sizes."""

    unit: Group | Member
    inner: Ranked | FixedSequence | LikelihoodRatio | RiskControl | RiskBound

    @property
    def on_grid(self) -> bool:
        """Whether lambda is a point of the grid, as for the inner theorem."""
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

    def rule(self, evidence: Evidence) -> Rule:
        """Return the rule for the units."""
        return self.inner.rule(self.unit.reduce(evidence))
