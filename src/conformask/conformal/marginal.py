"""The marginal guarantee: split conformal prediction on the critical lambdas (Vovk; Papadopoulos 2002)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from conformask.conformal.rules import ConstantLambda

ROUNDING = 1e-9


def marginal_rank(n: int, confidence: float) -> int:
    """j = floor((1 - confidence)(n + 1)): which smallest critical lambda is deployed; 0 is none (void)."""
    return math.floor((1 - confidence) * (n + 1) + ROUNDING)


def smallest_calibration_set(confidence: float) -> int:
    """The smallest n whose rank is at least 1: n >= confidence / (1 - confidence)."""
    return max(1, math.ceil(confidence / (1 - confidence) - ROUNDING))


@dataclass(frozen=True)
class Marginal:
    """P(d(m*y, m*y_hat) <= threshold) >= confidence over calibration and test image, if exchangeable."""

    confidence: float
    name: ClassVar[str] = "marginal"

    def smallest_calibration_set(self) -> int:
        """The smallest number of calibration images that can give the promise."""
        return smallest_calibration_set(self.confidence)

    def rule(self, critical_lambdas: Float[np.ndarray, "n"]) -> ConstantLambda:
        """The j-th smallest critical lambda; 0 (mask everything) where the promise is void."""
        rank = marginal_rank(len(critical_lambdas), self.confidence)
        if rank < 1:
            return ConstantLambda(0.0)
        return ConstantLambda(float(np.partition(critical_lambdas, rank - 1)[rank - 1]))
