"""A bound on the mean, for most calibration sets: risk-controlling masks (Bates et al. 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from conformask.conformal.bounds import Certifies, waudby_smith_ramdas
from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.order import smallest_set
from conformask.conformal.rules import ConstantLambda
from conformask.conformal.statements import require_threshold
from conformask.storage.hashes import hash_of_text


@dataclass(frozen=True)
class RCPS:
    """The largest grid point up to which the mean risk is certified: independent images, bounded loss."""

    delta: float
    certifies: Certifies = waudby_smith_ramdas
    on_grid: ClassVar[bool] = True
    reads: ClassVar[frozenset[str]] = frozenset()

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest n that suffices without any error; 1 if the loss has no bound.

        Raises:
            InvalidArgumentError: no threshold is given.
        """
        if upper_bound is None:
            return 1
        level = require_threshold(threshold) / upper_bound
        return smallest_set(lambda n: self.certifies(np.zeros(n), level, self.delta))

    def rank(self, n: int) -> None:
        """Return None: a mean is not a rank."""

    def rule(self, evidence: CalibrationData) -> ConstantLambda:
        """Return the largest grid point up to which the mean risk is certified at every step.

        Raises:
            InvalidArgumentError: the distance has no upper bound.
        """
        bound = evidence.bound()
        # bets depend on the order of the images, which nobody may choose after looking
        losses = evidence.risk()[hashed_order(evidence.curves.names)] / bound
        level, lam = evidence.threshold / bound, 0.0
        for index in range(1, len(evidence.curves.grid)):
            if not self.certifies(losses[:, index].clip(0, 1), level, self.delta):
                break
            lam = float(evidence.curves.grid[index])
        return ConstantLambda(lam)


def hashed_order(names: Sequence[str] | np.ndarray) -> list[int]:
    """Return an order that depends on the names alone, not on how they were listed."""
    keys = [hash_of_text(str(name)) for name in names]
    return sorted(range(len(keys)), key=keys.__getitem__)
