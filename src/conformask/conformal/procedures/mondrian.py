"""One lambda for each category: Mondrian conformal prediction (Vovk et al. 2003)."""

from dataclasses import dataclass, replace

import numpy as np

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.covariates import covariates_of
from conformask.conformal.procedures.procedure import Procedure
from conformask.conformal.rules import CategoryLambda


@dataclass(frozen=True)
class Mondrian:
    """A theorem applied to each category by itself; delta, if any, holds for each category."""

    inner: Procedure

    @property
    def on_grid(self) -> bool:
        """True if lambda is a point of the grid, as for the inner theorem."""
        return self.inner.on_grid

    @property
    def reads(self) -> frozenset[str]:
        """The columns of the inner theorem, without the bound of an image, and the category."""
        return (self.inner.reads - {"bound_curve"}) | {"category"}

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest number of units of every category."""
        return self.inner.smallest_calibration_set(threshold, upper_bound)

    def rank(self, n: int) -> None:
        """Return None: each category has its own rank."""

    def rule(self, evidence: CalibrationData) -> CategoryLambda:
        """Return a lambda for each category; 0 for one with too few images."""
        categories, lambdas = evidence.column("category"), {}
        for category in np.unique(categories):
            category_data = replace(evidence.take(np.flatnonzero(categories == category)), own_bound=False)
            rule = self.inner.rule(category_data)
            lambdas[str(category)] = float(rule(covariates_of(category_data.curves))[0])
        return CategoryLambda(lambdas)
