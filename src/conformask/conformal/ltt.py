"""The ltt guarantee: as pac, without monotonicity: learn then test (Angelopoulos et al. 2021)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import stats

from conformask.conformal.crossing import passes
from conformask.conformal.evidence import Evidence
from conformask.conformal.order import ROUNDING, smallest_binomial_set
from conformask.conformal.rules import ConstantLambda
from conformask.conformal.words import rate, with_probability


@dataclass(frozen=True)
class Ltt:
    """With probability 1 - delta over calibration sets, P(d <= threshold | calibration set) >= confidence.

    The grid is ascended by fixed-sequence testing of the raw distances, so that an image may fail at a
    smaller lambda and pass at the deployed one. The images are independent draws from one population.
    """

    confidence: float
    delta: float
    bounds_a_mean: ClassVar[bool] = False
    name: ClassVar[str] = "ltt"
    needs: ClassVar[frozenset[str]] = frozenset({"grid"})

    def claim(self, distance: str, threshold: float) -> str:
        """With probability 1 - delta over calibration sets, P(distance <= threshold) >= confidence."""
        return with_probability(self.delta, rate(distance, threshold, self.confidence))

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """The smallest n with confidence^n <= delta."""
        return smallest_binomial_set(self.confidence, self.delta)

    def rank(self, n: int) -> None:
        """A grid point is deployed."""

    def fixed(self, selection: Evidence, n: int) -> "Ltt":
        """Nothing is to be chosen."""
        return self

    def rule(self, evidence: Evidence) -> ConstantLambda:
        """The last grid point before the first with too many failures to reject; 0 if the first has."""
        failures = (~passes(evidence.curves.distance[:, 1:], evidence.threshold)).sum(axis=0)
        p_values = stats.binom.cdf(failures, evidence.n, 1 - self.confidence)
        accepted = p_values > self.delta * (1 + ROUNDING)
        last = int(accepted.argmax()) if accepted.any() else len(accepted)
        return ConstantLambda(float(np.asarray(evidence.curves.grid)[last]))
