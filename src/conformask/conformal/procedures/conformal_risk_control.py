"""Bounds on a mean, on average over calibration sets: conformal risk control (Angelopoulos et al. 2024)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.order import ROUNDING
from conformask.conformal.rules import BoundedRisk, ConstantLambda
from conformask.conformal.statements import (
    ConditionalExpectedLoss,
    ExpectedLoss,
    require_threshold,
    tail_risk,
)


@dataclass(frozen=True)
class ConformalRiskControl:
    """The rule max{lam on the grid : (sum of tail risks + that of the bound) / (n + 1) <= threshold}.

    The bound is that of the loss, or the image's own where it has one.
    """

    statement: ExpectedLoss | ConditionalExpectedLoss
    on_grid: ClassVar[bool] = True
    reads: ClassVar[frozenset[str]] = frozenset({"bound_curve"})

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the least n for which closed masks suffice; 1 if images have their own bounds.

        Raises:
            InvalidArgumentError: no threshold is given.
        """
        if upper_bound is None:
            return 1
        t, steepness = self.statement.t, self.statement.steepness
        needed = (tail_risk(np.array(upper_bound), t, steepness) - t) / (require_threshold(threshold) - t)
        return max(1, math.ceil(float(needed) * (1 - ROUNDING)) - 1)

    def rank(self, n: int) -> None:
        """Return None: a mean is not a rank."""

    def rule(self, evidence: CalibrationData) -> ConstantLambda | BoundedRisk:
        """Return a rule by the bound of each image, or one lambda for all.

        Raises:
            InvalidArgumentError: the distance has no upper bound.
        """
        t, steepness = self.statement.t, self.statement.steepness
        total = tail_risk(evidence.risk(), t, steepness).sum(axis=0)
        rule = BoundedRisk(evidence.curves.grid, total, evidence.n, evidence.threshold, t, steepness)
        if evidence.own_bound:
            return rule
        bound = np.full((1, len(evidence.curves.grid)), evidence.bound())
        return ConstantLambda(float(rule.lambdas(bound)[0]))
