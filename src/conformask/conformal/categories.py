"""A promise in each category: Mondrian conformal prediction (Vovk et al. 2003)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from conformask.conformal.evidence import Evidence
from conformask.conformal.order import marginal_rank, smallest, smallest_marginal_set
from conformask.conformal.rules import CategoryLambda
from conformask.conformal.words import rate


@dataclass(frozen=True)
class Categories:
    """P(d <= threshold | category) >= confidence in every category, each with a lambda of its own."""

    confidence: float
    delta: ClassVar[None] = None
    bounds_a_mean: ClassVar[bool] = False
    name: ClassVar[str] = "categories"
    needs: ClassVar[frozenset[str]] = frozenset({"category"})

    def claim(self, distance: str, threshold: float) -> str:
        """P(distance <= threshold | category) >= confidence."""
        return rate(distance, threshold, self.confidence, " | category")

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Of every category: confidence / (1 - confidence), rounded up."""
        return smallest_marginal_set(self.confidence)

    def rank(self, n: int) -> None:
        """Each category has its own."""

    def fixed(self, selection: Evidence, n: int) -> "Categories":
        """Nothing is to be chosen."""
        return self

    def rule(self, evidence: Evidence) -> CategoryLambda:
        """The marginal rule of each category; 0 for one with too few images."""
        categories = evidence.column("category")
        lambdas = {}
        for category in np.unique(categories):
            critical = evidence.critical_lambdas[categories == category]
            lambdas[str(category)] = smallest(critical, marginal_rank(len(critical), self.confidence))
        return CategoryLambda(lambdas)
