"""The marginal guarantee: split conformal prediction on the critical lambdas (Papadopoulos et al. 2002)."""

from dataclasses import dataclass
from typing import ClassVar

from conformask.conformal.evidence import Evidence
from conformask.conformal.order import marginal_rank, smallest, smallest_marginal_set
from conformask.conformal.rules import ConstantLambda
from conformask.conformal.words import rate


@dataclass(frozen=True)
class Marginal:
    """P(d(m*y, m*y_hat) <= threshold) >= confidence over calibration and test image, if exchangeable."""

    confidence: float
    delta: ClassVar[None] = None
    bounds_a_mean: ClassVar[bool] = False
    name: ClassVar[str] = "marginal"
    needs: ClassVar[frozenset[str]] = frozenset()

    def claim(self, distance: str, threshold: float) -> str:
        """P(distance <= threshold) >= confidence."""
        return rate(distance, threshold, self.confidence)

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """confidence / (1 - confidence), rounded up."""
        return smallest_marginal_set(self.confidence)

    def rank(self, n: int) -> int:
        """j = floor((1 - confidence)(n + 1))."""
        return marginal_rank(n, self.confidence)

    def fixed(self, selection: Evidence, n: int) -> "Marginal":
        """Nothing is to be chosen."""
        return self

    def rule(self, evidence: Evidence) -> ConstantLambda:
        """The j-th smallest critical lambda, j = floor((1 - confidence)(n + 1)); 0 where that is void."""
        return ConstantLambda(smallest(evidence.critical_lambdas, self.rank(evidence.n)))
