"""Dependent images in groups: hierarchical conformal prediction (Lee, Barber and Willett 2023)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.order import largest_lambda, smallest_marginal_set
from conformask.conformal.rules import ConstantLambda


@dataclass(frozen=True)
class Hierarchical:
    """The promise for an image of a new group: all groups weigh alike, and the new one counts as failing."""

    confidence: float
    on_grid: ClassVar[bool] = False
    reads: ClassVar[frozenset[str]] = frozenset({"group"})

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the least number of groups, confidence / (1 - confidence) rounded up.

        Masks that are not too large take many more.
        """
        return smallest_marginal_set(self.confidence)

    def rank(self, n: int) -> None:
        """Return None: images of a group count together."""

    def rule(self, evidence: CalibrationData) -> ConstantLambda:
        """Return max{lam : sum_g mean_{i in g} 1{lam_gi < lam} + 1 <= (1 - confidence)(K + 1)}, K groups."""
        _, group, count = np.unique(evidence.column("group"), return_inverse=True, return_counts=True)
        share = 1 / (len(count) + 1)
        weights = share / count[group]
        return ConstantLambda(largest_lambda(evidence.critical_lambdas, weights, 1 - self.confidence - share))
