"""A lambda for each category: Mondrian conformal prediction (Vovk et al. 2003)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from conformask.conformal.evidence import Evidence
from conformask.conformal.rules import CategoryLambda
from conformask.conformal.theorems.ranked import Ranked


@dataclass(frozen=True)
class InEachCategory:
    """The theorem in each category by itself."""

    inner: Ranked
    on_grid: ClassVar[bool] = False
    reads: ClassVar[frozenset[str]] = frozenset({"category"})

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Of every category."""
        return self.inner.smallest_calibration_set(threshold, upper_bound)

    def rank(self, n: int) -> None:
        """Each category has its own."""

    def rule(self, evidence: Evidence) -> CategoryLambda:
        """The rule of each category; 0 for one with too few images."""
        categories = evidence.column("category")
        lambdas = {
            str(category): self.inner.rule(evidence.take(np.flatnonzero(categories == category))).lam
            for category in np.unique(categories)
        }
        return CategoryLambda(lambdas)
