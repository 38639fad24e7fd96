"""The rcps guarantee: risk-controlling masks (Bates et al. 2021)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from conformask.conformal.bounds import Certifies, hoeffding_bentkus, waudby_smith_ramdas
from conformask.conformal.evidence import Evidence
from conformask.conformal.order import smallest_set
from conformask.conformal.rules import ConstantLambda
from conformask.conformal.words import mean, with_probability
from conformask.errors import InvalidArgumentError


@dataclass(frozen=True)
class Rcps:
    """With probability 1 - delta over calibration sets, E[d | calibration set] <= threshold.

    The images are independent draws from one population, and the distance is bounded.
    """

    delta: float
    name: str = "rcps"
    certifies: Certifies = waudby_smith_ramdas
    confidence: ClassVar[None] = None
    bounds_a_mean: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"grid", "upper_bound"})

    def claim(self, distance: str, threshold: float) -> str:
        """With probability 1 - delta over calibration sets, E distance <= threshold."""
        return with_probability(self.delta, mean(distance, threshold))

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """The smallest n for which images without any error would do; 1 where the bound is not known."""
        if upper_bound is None:
            return 1
        if threshold is None:
            raise InvalidArgumentError("a promise about a mean depends on the threshold: give one")
        level = threshold / upper_bound
        return smallest_set(lambda n: self.certifies(np.zeros(n), level, self.delta))

    def rank(self, n: int) -> None:
        """A mean is no rank."""

    def fixed(self, selection: Evidence, n: int) -> "Rcps":
        """Nothing is to be chosen."""
        return self

    def rule(self, evidence: Evidence) -> ConstantLambda:
        """The largest grid point such that at it and at all below the mean risk is certified.

        Raises:
            InvalidArgumentError: the distance has no upper bound.
        """
        if evidence.upper_bound is None:
            raise InvalidArgumentError("a promise about a mean needs a distance with an upper bound")
        losses = evidence.risk()[hashed_order(evidence.curves.names)] / evidence.upper_bound
        level, lam = evidence.threshold / evidence.upper_bound, 0.0
        for place in range(1, len(evidence.curves.grid)):
            if not self.certifies(losses[:, place].clip(0, 1), level, self.delta):
                break
            lam = float(evidence.curves.grid[place])
        return ConstantLambda(lam)


def hoeffding_bentkus_rcps(delta: float) -> Rcps:
    """Rcps by the bound of the original paper, which does not depend on an order of the images."""
    return Rcps(delta, "rcps_hb", hoeffding_bentkus)


def hashed_order(names: Sequence[str] | np.ndarray) -> list[int]:
    """An order that depends on the names alone, not on how they were listed."""
    keys = [hashlib.sha256(str(name).encode()).digest() for name in names]
    return sorted(range(len(keys)), key=keys.__getitem__)
