"""A bound on the mean share of failing images per group, for most calibration sets (Bates et al. 2021)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from conformask.conformal.bounds import waudby_smith_ramdas
from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.grouping import members
from conformask.conformal.order import smallest_set
from conformask.conformal.procedures.rcps import hashed_order
from conformask.conformal.rules import ConstantLambda


@dataclass(frozen=True)
class GroupShareBound:
    """The largest lambda at which the mean of F_g(lam), group g's share with lam_i < lam, is certified.

    F_g is nondecreasing and changes only at critical lambdas, so no grid is needed. Groups are independent
    draws.
    """

    confidence: float
    delta: float
    on_grid: ClassVar[bool] = False
    reads: ClassVar[frozenset[str]] = frozenset({"group"})

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest number of groups that suffices if no image fails."""
        return smallest_set(lambda k: self._certifies(np.zeros(k)))

    def rank(self, n: int) -> None:
        """Return None: images of a group count together."""

    def rule(self, evidence: CalibrationData) -> ConstantLambda:
        """Return the largest critical lambda up to which the mean share is certified at every step."""
        groups, candidates = evidence.column("group"), np.unique(evidence.critical_lambdas)
        rows = [np.sort(evidence.critical_lambdas[places]) for places in members(groups)]
        failing = np.stack([np.searchsorted(row, candidates, side="left") / len(row) for row in rows])
        # bets depend on the order of the groups, which nobody may choose after looking
        failing, lam = failing[hashed_order(np.unique(groups))], 0.0
        for candidate, shares in zip(candidates, failing.T, strict=True):
            if not self._certifies(shares):
                break
            lam = float(candidate)
        return ConstantLambda(lam)

    def _certifies(self, failing: np.ndarray) -> bool:
        return waudby_smith_ramdas(failing, 1 - self.confidence, self.delta)
