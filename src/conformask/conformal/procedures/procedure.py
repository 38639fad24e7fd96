"""The protocol of a theorem behind a promise, and theorems applied to each category or to whole groups."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.procedures.risk_control import RCPS, ConformalRiskControl, LearnThenTest
from conformask.conformal.procedures.split_conformal import SplitConformal, WeightedConformal
from conformask.conformal.rules import CategoryLambda, Rule, covariates_of
from conformask.conformal.units import Group, ImageOfNewGroup


@runtime_checkable
class Procedure(Protocol):
    """Makes a rule that keeps a promise from the evidence of calibration images."""

    @property
    def on_grid(self) -> bool:
        """True if lambda is a point of the grid, even where critical lambdas are exact."""

    @property
    def reads(self) -> frozenset[str]:
        """The columns read for each image: group, category, weight, features, or its bound_curve."""

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest number of units that can suffice.

        The threshold and the constant upper bound of the loss matter for promises about a mean.
        """

    def rank(self, n: int) -> int | None:
        """Return which of n ascending critical lambdas is deployed; None where it is not one of them.

        If there is a rank, coverage has a known law: see `order.coverage_range` and `coverage_test`.
        """

    def rule(self, evidence: CalibrationData) -> Rule:
        """Return the rule; it is void, and masks everything, where the promise cannot be given."""


@dataclass(frozen=True)
class Mondrian:
    """A theorem applied to each category by itself, which then has its own lambda (Vovk et al. 2003).

    delta, if any, holds for each category.
    """

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


INNER = (SplitConformal, LearnThenTest, WeightedConformal, ConformalRiskControl, RCPS)
"""Theorems that hold for any units that are exchangeable, or independent where they require it."""


@dataclass(frozen=True)
class PerGroup:
    """A theorem about units, applied to whole groups, whatever their sizes."""

    unit: Group | ImageOfNewGroup
    inner: SplitConformal | LearnThenTest | WeightedConformal | ConformalRiskControl | RCPS

    @property
    def on_grid(self) -> bool:
        """True if lambda is a point of the grid, as for the inner theorem."""
        return self.inner.on_grid

    @property
    def reads(self) -> frozenset[str]:
        """The columns of the inner theorem, without the bound of an image, and the group."""
        return (self.inner.reads - {"bound_curve"}) | self.unit.reads

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest number of units."""
        return self.inner.smallest_calibration_set(threshold, upper_bound)

    def rank(self, n: int) -> int | None:
        """Return the rank among n units."""
        return self.inner.rank(n)

    def rule(self, evidence: CalibrationData) -> Rule:
        """Return the rule for the units."""
        return self.inner.rule(self.unit.reduce(evidence))
