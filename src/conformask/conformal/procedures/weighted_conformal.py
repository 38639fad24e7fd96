"""Covariate shift by a known likelihood ratio: weighted conformal prediction (Tibshirani et al. 2019)."""

from dataclasses import dataclass
from typing import ClassVar

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.order import smallest_marginal_set
from conformask.conformal.rules import WeightedLambda


@dataclass(frozen=True)
class WeightedConformal:
    """Critical lambdas weighted by their images' weights, the new image by its own."""

    confidence: float
    on_grid: ClassVar[bool] = False
    reads: ClassVar[frozenset[str]] = frozenset({"weight"})

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the number of effective images: confidence / (1 - confidence), rounded up."""
        return smallest_marginal_set(self.confidence)

    def rank(self, n: int) -> None:
        """Return None: images count by their weights."""

    def rule(self, evidence: CalibrationData) -> WeightedLambda:
        """Return for each image max{lam : weight of critical lambdas below and its own <= 1 - confidence}."""
        return WeightedLambda.of(evidence.critical_lambdas, evidence.column("weight"), self.confidence)
