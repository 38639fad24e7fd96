"""A lambda for each image: conformal prediction on normalised critical lambdas (Papadopoulos et al. 2008)."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from conformask.conformal.crossing import between_grid_points
from conformask.conformal.evidence import Evidence
from conformask.conformal.order import marginal_rank, smallest_marginal_set
from conformask.conformal.quantile_regression import LogLinear, constant, quantile_regression
from conformask.conformal.rules import AdaptiveLambda
from conformask.conformal.words import rate

IMAGES_A_COEFFICIENT = 10
"""Fewer selection images than this for each feature give a constant."""


@dataclass(frozen=True)
class Adaptive:
    """P(d <= threshold) >= confidence with a lambda that follows how hard an image looks.

    h is a low quantile of log critical lambda given the features, fitted on selection images; the promise
    holds whatever h is, since s_(j) <= s of the new image implies lambda <= its critical lambda.
    """

    confidence: float
    h: LogLinear | None = None
    """Fitted on the selection images."""
    delta: ClassVar[None] = None
    bounds_a_mean: ClassVar[bool] = False
    name: ClassVar[str] = "adaptive"
    needs: ClassVar[frozenset[str]] = frozenset({"features", "selection"})

    def claim(self, distance: str, threshold: float) -> str:
        """P(distance <= threshold) >= confidence."""
        return rate(distance, threshold, self.confidence)

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """confidence / (1 - confidence), rounded up."""
        return smallest_marginal_set(self.confidence)

    def rank(self, n: int) -> int:
        """Of normalised critical lambdas, as in marginal."""
        return marginal_rank(n, self.confidence)

    def fixed(self, selection: Evidence, n: int) -> "Adaptive":
        """With h fitted to the selection images whose critical lambda is neither 0 nor inf."""
        features, curves = selection.column("features"), selection.curves
        critical = between_grid_points(curves.grid, curves.distance, selection.threshold)
        known = (critical > 0) & np.isfinite(critical)
        fit = quantile_regression
        if known.sum() < IMAGES_A_COEFFICIENT * (features.shape[1] + 1):
            fit = constant
        return replace(self, h=fit(features[known], np.log(critical[known]), 1 - self.confidence))

    def rule(self, evidence: Evidence) -> AdaptiveLambda:
        """exp(h(x) + s_(j)), s_k = log lam_k - h(x_k); on the grid where the distance is not monotone.

        Raises:
            ValueError: h was not fitted.
        """
        if self.h is None:
            raise ValueError("adaptive: h is not fitted")
        with np.errstate(divide="ignore"):
            normalised = np.log(evidence.critical_lambdas) - self.h(evidence.column("features"))
        rank = self.rank(evidence.n)
        shift = float(np.partition(normalised, rank - 1)[rank - 1]) if rank else -np.inf
        return AdaptiveLambda(self.h, shift, None if evidence.monotone else evidence.curves.grid)
