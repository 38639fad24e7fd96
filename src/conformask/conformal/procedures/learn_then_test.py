"""Learn then test: the grid is ascended until a test fails (Angelopoulos et al. 2021)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import stats

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.crossing import meets_threshold
from conformask.conformal.order import ROUNDING, smallest_binomial_set
from conformask.conformal.rules import ConstantLambda


@dataclass(frozen=True)
class LearnThenTest:
    """A test along the grid without monotonicity: images may fail at smaller and pass at larger lambdas."""

    confidence: float
    delta: float
    on_grid: ClassVar[bool] = True
    reads: ClassVar[frozenset[str]] = frozenset()

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest n with confidence^n <= delta."""
        return smallest_binomial_set(self.confidence, self.delta)

    def rank(self, n: int) -> None:
        """Return None: a grid point is deployed."""

    def rule(self, evidence: CalibrationData) -> ConstantLambda:
        """Return the last grid point before the first with too many failures; 0 if the first has too many."""
        failures = (~meets_threshold(evidence.curves.loss[:, 1:], evidence.threshold)).sum(axis=0)
        p_values = stats.binom.cdf(failures, evidence.n, 1 - self.confidence)
        accepted = p_values > self.delta * (1 + ROUNDING)
        last = int(accepted.argmax()) if accepted.any() else len(accepted)
        return ConstantLambda(float(np.asarray(evidence.curves.grid)[last]))
