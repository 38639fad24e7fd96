"""Covariate shift by a known likelihood ratio: weighted conformal prediction (Tibshirani et al. 2019)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from conformask.conformal.evidence import Evidence
from conformask.conformal.order import smallest_marginal_set
from conformask.conformal.rules import WeightedLambda
from conformask.conformal.words import rate


@dataclass(frozen=True)
class Weighted:
    """P(d <= threshold) >= confidence for images of another population, of known likelihood ratio."""

    confidence: float
    delta: ClassVar[None] = None
    bounds_a_mean: ClassVar[bool] = False
    name: ClassVar[str] = "weighted"
    needs: ClassVar[frozenset[str]] = frozenset({"weight"})

    def claim(self, distance: str, threshold: float) -> str:
        """P(distance <= threshold as weighted) >= confidence."""
        return rate(distance, threshold, self.confidence, " as weighted")

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Effective images: confidence / (1 - confidence), rounded up."""
        return smallest_marginal_set(self.confidence)

    def rank(self, n: int) -> None:
        """Images count by their weights."""

    def fixed(self, selection: Evidence, n: int) -> "Weighted":
        """Nothing is to be chosen."""
        return self

    def rule(self, evidence: Evidence) -> WeightedLambda:
        """For each image max{lam : weight of critical lambdas below it and its own <= 1 - confidence}."""
        return WeightedLambda.of(evidence.critical_lambdas, evidence.column("weight"), self.confidence)


def effective_sample_size(weights: Float[np.ndarray, "n"]) -> float:
    """(sum w)^2 / sum w^2 (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())
