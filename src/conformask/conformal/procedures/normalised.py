"""An order statistic of normalised critical lambdas (Papadopoulos et al. 2008)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.certainty import Marginal
from conformask.conformal.quantile_regression import LogLinear
from conformask.conformal.rules import AdaptiveLambda


@dataclass(frozen=True)
class Normalised:
    """Lambda exp(h + s_(j)), valid for any h: s_(j) <= s of the new image implies lambda <= its own."""

    confidence: float
    certainty: Marginal
    h: LogLinear | None
    on_grid: ClassVar[bool] = False
    reads: ClassVar[frozenset[str]] = frozenset({"features"})

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest n whose rank is at least 1."""
        return self.certainty.smallest_set(self.confidence)

    def rank(self, n: int) -> int:
        """Return the rank among the normalised critical lambdas."""
        return self.certainty.rank(n, self.confidence)

    def rule(self, evidence: CalibrationData) -> AdaptiveLambda:
        """Return exp(h(x) + s_(j)), s_k = log lam_k - h(x_k); on the grid where the loss is not monotone.

        Raises:
            ValueError: h was not fitted.
        """
        if self.h is None:
            raise ValueError("adaptive: h is not fitted")
        with np.errstate(divide="ignore"):
            residuals = np.log(evidence.critical_lambdas) - self.h(evidence.column("features"))
        rank = self.rank(evidence.n)
        shift = float(np.partition(residuals, rank - 1)[rank - 1]) if rank else -np.inf
        return AdaptiveLambda(self.h, shift, None if evidence.monotone else evidence.curves.grid)
