"""Order statistics of the critical lambdas: split conformal prediction (Papadopoulos et al. 2002).

The certainty determines which one; see `certainty`.
"""

from dataclasses import dataclass
from typing import ClassVar

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.certainty import Certainty
from conformask.conformal.order import smallest
from conformask.conformal.rules import ConstantLambda


@dataclass(frozen=True)
class SplitConformal:
    """The j-th smallest critical lambda: coverage is at least Beta(n + 1 - j, j), whatever the errors."""

    confidence: float
    certainty: Certainty
    on_grid: ClassVar[bool] = False
    reads: ClassVar[frozenset[str]] = frozenset()

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest n whose rank is at least 1."""
        return self.certainty.smallest_set(self.confidence)

    def rank(self, n: int) -> int:
        """Return j; 0 is none."""
        return self.certainty.rank(n, self.confidence)

    def rule(self, evidence: CalibrationData) -> ConstantLambda:
        """Return the j-th smallest critical lambda; 0 where that is void."""
        return ConstantLambda(smallest(evidence.critical_lambdas, self.rank(evidence.n)))
