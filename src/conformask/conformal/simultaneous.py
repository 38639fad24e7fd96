"""A whole table of promises at once: honest when threshold and confidence are chosen after looking."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from conformask.conformal.band import pointwise_delta
from conformask.conformal.evidence import Evidence
from conformask.conformal.order import ROUNDING, binomial_rank, smallest, smallest_set
from conformask.conformal.rules import ConstantLambda
from conformask.conformal.words import rate, with_probability
from conformask.errors import InvalidArgumentError

THRESHOLDS = 64


@dataclass(frozen=True)
class Simultaneous:
    """With probability 1 - delta, P(d <= a) >= c for every declared threshold a and every confidence c.

    The images are independent draws from one population; thresholds are declared before they are seen.
    """

    confidence: float
    delta: float
    thresholds: tuple[float, ...] = ()
    """Declared from the selection images, ascending."""
    bounds_a_mean: ClassVar[bool] = False
    name: ClassVar[str] = "simultaneous"
    needs: ClassVar[frozenset[str]] = frozenset({"selection"})

    def claim(self, distance: str, threshold: float) -> str:
        """The pac claim at this threshold, as one of many."""
        declared = max(len(self.thresholds), 1)
        every = f"for {declared} thresholds and every confidence at once"
        return with_probability(self.delta, f"{every}, {rate(distance, threshold, self.confidence)}")

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """The smallest n whose rank is at least 1."""
        return smallest_set(lambda n: self.rank(n) >= 1)

    def rank(self, n: int) -> int:
        """The rank at this confidence, of the band that holds for every confidence and threshold."""
        declared = max(len(self.thresholds), THRESHOLDS)
        return binomial_rank(n, self.confidence, pointwise_delta(n, self.delta / declared))

    def fixed(self, selection: Evidence, n: int) -> "Simultaneous":
        """With the wanted threshold and others, from a tenth of the least unmasked distance to the most."""
        unmasked = selection.curves.distance[:, -1]
        positive = unmasked[unmasked > 0]
        low, high = (positive.min() / 10, positive.max()) if len(positive) else (1.0, 1.0)
        others = np.geomspace(min(low, selection.threshold), max(high, selection.threshold), THRESHOLDS - 1)
        declared = sorted({selection.threshold, *map(float, others)})
        return replace(self, thresholds=tuple(declared))

    def snapped(self, threshold: float) -> float:
        """The largest declared threshold that is at most this.

        Raises:
            InvalidArgumentError: all are larger.
        """
        below = [a for a in self.thresholds if a <= threshold * (1 + ROUNDING)]
        if not below:
            raise InvalidArgumentError(
                f"threshold = {threshold:g} is below every declared threshold (from {self.thresholds[0]:g})"
            )
        return below[-1]

    def rule(self, evidence: Evidence) -> ConstantLambda:
        """The rank-th smallest critical lambda at a declared threshold."""
        return ConstantLambda(smallest(evidence.critical_lambdas, self.rank(evidence.n)))
