"""The pac guarantee: coverage of this very calibration, with a stated probability (Vovk 2012; Wilks 1941)."""

from dataclasses import dataclass
from typing import ClassVar

from conformask.conformal.evidence import Evidence
from conformask.conformal.order import binomial_rank, smallest, smallest_binomial_set
from conformask.conformal.rules import ConstantLambda
from conformask.conformal.words import rate, with_probability


@dataclass(frozen=True)
class Pac:
    """With probability 1 - delta over calibration sets, P(d <= threshold | calibration set) >= confidence.

    The images are independent draws from one population.
    """

    confidence: float
    delta: float
    bounds_a_mean: ClassVar[bool] = False
    name: ClassVar[str] = "pac"
    needs: ClassVar[frozenset[str]] = frozenset()

    def claim(self, distance: str, threshold: float) -> str:
        """With probability 1 - delta over calibration sets, P(distance <= threshold) >= confidence."""
        return with_probability(self.delta, rate(distance, threshold, self.confidence))

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """The smallest n with confidence^n <= delta."""
        return smallest_binomial_set(self.confidence, self.delta)

    def rank(self, n: int) -> int:
        """j = max{ j : P(Bin(n, 1 - confidence) <= j - 1) <= delta }."""
        return binomial_rank(n, self.confidence, self.delta)

    def fixed(self, selection: Evidence, n: int) -> "Pac":
        """Nothing is to be chosen."""
        return self

    def rule(self, evidence: Evidence) -> ConstantLambda:
        """The j-th smallest critical lambda, j = max{j : P(Bin(n, 1 - confidence) <= j - 1) <= delta}."""
        return ConstantLambda(smallest(evidence.critical_lambdas, self.rank(evidence.n)))
