"""Dependent images in groups: hierarchical conformal prediction (Lee, Barber and Willett 2023)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from conformask.conformal.evidence import Evidence
from conformask.conformal.order import largest_lambda, smallest_marginal_set
from conformask.conformal.rules import ConstantLambda
from conformask.conformal.words import rate


@dataclass(frozen=True)
class Groups:
    """P(d <= threshold) >= confidence for an image of a new group, where groups are exchangeable."""

    confidence: float
    delta: ClassVar[None] = None
    bounds_a_mean: ClassVar[bool] = False
    name: ClassVar[str] = "groups"
    needs: ClassVar[frozenset[str]] = frozenset({"group"})

    def claim(self, distance: str, threshold: float) -> str:
        """P(distance <= threshold in a new group) >= confidence."""
        return rate(distance, threshold, self.confidence, " in a new group")

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Groups: confidence / (1 - confidence), rounded up; many more for masks that are not too large."""
        return smallest_marginal_set(self.confidence)

    def rank(self, n: int) -> None:
        """Images of a group count together."""

    def fixed(self, selection: Evidence, n: int) -> "Groups":
        """Nothing is to be chosen."""
        return self

    def rule(self, evidence: Evidence) -> ConstantLambda:
        """max{lam : sum_g mean_{i in g} 1{lam_gi < lam} + 1 <= (1 - confidence)(K + 1)}, K groups."""
        _, group, count = np.unique(evidence.column("group"), return_inverse=True, return_counts=True)
        share = 1 / (len(count) + 1)
        weights = share / count[group]
        return ConstantLambda(largest_lambda(evidence.critical_lambdas, weights, 1 - self.confidence - share))
