"""The calibration sets for which a promise holds: on average, most of them, or for a whole table at once.

Each class says which order statistic of the critical lambdas is deployed, where one is.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from conformask.conformal.band import pointwise_delta
from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.order import (
    ROUNDING,
    binomial_rank,
    marginal_rank,
    smallest_binomial_set,
    smallest_marginal_set,
    smallest_set,
)
from conformask.conformal.statements import with_probability
from conformask.errors import InvalidArgumentError

THRESHOLDS = 64
"""Number of thresholds declared for a table of promises."""
SURE = "with {certainty} certainty about these calibration images, "
"""The beginning of a sentence that holds for most calibration sets."""
DRAWN = "Draw {drawn}, again and again: "
KEPT = "Except for a small share of calibration sets (delta), the following holds for this calibration: "


@dataclass(frozen=True)
class Marginal:
    """A promise on average over sets and new images, if exchangeable (Papadopoulos et al. 2002)."""

    says: ClassVar[str] = "on average over calibration sets"
    delta: ClassVar[None] = None
    needs_selection: ClassVar[bool] = False
    begins: ClassVar[str] = DRAWN
    ends: ClassVar[str] = ""
    sure: ClassVar[str] = ""

    def claim(self, statement: str) -> str:
        """Return the statement itself."""
        return statement

    def rank(self, n: int, confidence: float) -> int:
        """Return j = floor((1 - confidence)(n + 1))."""
        return marginal_rank(n, confidence)

    def smallest_set(self, confidence: float) -> int:
        """Return confidence / (1 - confidence), rounded up."""
        return smallest_marginal_set(confidence)


@dataclass(frozen=True)
class TrainingConditional:
    """A promise for all but a share delta of sets of independent images (Vovk 2012; Wilks 1941)."""

    delta: float
    test: Literal["fixed_sequence", "hoeffding_bentkus"] | None = None
    """The test that is relied on; None is the usual one."""
    says: ClassVar[str] = "with probability 1 - delta"
    needs_selection: ClassVar[bool] = False
    begins: ClassVar[str] = KEPT
    ends: ClassVar[str] = ""
    sure: ClassVar[str] = SURE

    def claim(self, statement: str) -> str:
        """Return the statement, with probability 1 - delta over calibration sets."""
        return with_probability(self.delta, statement)

    def rank(self, n: int, confidence: float) -> int:
        """Return j = max{ j : P(Bin(n, 1 - confidence) <= j - 1) <= delta }."""
        return binomial_rank(n, confidence, self.delta)

    def smallest_set(self, confidence: float) -> int:
        """Return the smallest n with confidence^n <= delta."""
        return smallest_binomial_set(confidence, self.delta)


@dataclass(frozen=True)
class Simultaneous:
    """A promise for most calibration sets, for every declared threshold and every confidence at once.

    The promise is valid when threshold and confidence are chosen after looking. The images are independent
    draws from one population; thresholds are declared before the images are seen.
    """

    delta: float
    thresholds: tuple[float, ...] = ()
    """Thresholds declared from the selection images, ascending."""
    says: ClassVar[str] = "for a whole table at once"
    needs_selection: ClassVar[bool] = True
    begins: ClassVar[str] = KEPT
    sure: ClassVar[str] = f"{SURE}whichever of the declared thresholds and whichever confidence is chosen, "
    ends: ClassVar[str] = (
        ", and so for every other declared threshold and every confidence, chosen before or after"
    )

    def claim(self, statement: str) -> str:
        """Return the statement as one of many that hold at once."""
        n_declared = max(len(self.thresholds), 1)
        scope = f"for {n_declared} thresholds and every confidence at once"
        return with_probability(self.delta, f"{scope}, {statement}")

    def rank(self, n: int, confidence: float) -> int:
        """Return the rank at this confidence, from the band for all confidences and thresholds."""
        n_declared = max(len(self.thresholds), THRESHOLDS)
        return binomial_rank(n, confidence, pointwise_delta(n, self.delta / n_declared))

    def smallest_set(self, confidence: float) -> int:
        """Return the smallest n whose rank is at least 1."""
        return smallest_set(lambda n: self.rank(n, confidence) >= 1)

    def fit_on_selection(self, selection: CalibrationData) -> "Simultaneous":
        """Declare this threshold and others, from a tenth of the least unmasked loss to the largest."""
        unmasked = selection.curves.loss[:, -1]
        positive = unmasked[unmasked > 0]
        low, high = (positive.min() / 10, positive.max()) if len(positive) else (1.0, 1.0)
        others = np.geomspace(min(low, selection.threshold), max(high, selection.threshold), THRESHOLDS - 1)
        thresholds = sorted({selection.threshold, *map(float, others)})
        return replace(self, thresholds=tuple(thresholds))

    def snapped(self, threshold: float) -> float:
        """Return the largest declared threshold that is at most `threshold`.

        Raises:
            InvalidArgumentError: all declared thresholds are larger.
        """
        candidates = [a for a in self.thresholds if a <= threshold * (1 + ROUNDING)]
        if not candidates:
            raise InvalidArgumentError(
                f"threshold = {threshold:g} is below the smallest declared threshold, {self.thresholds[0]:g}"
            )
        return candidates[-1]


Certainty = Marginal | TrainingConditional | Simultaneous
