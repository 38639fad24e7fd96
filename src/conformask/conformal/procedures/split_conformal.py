"""Order statistics of critical lambdas: split conformal prediction and its variants."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.certainty import Certainty
from conformask.conformal.order import largest_lambda, smallest, smallest_marginal_set
from conformask.conformal.rules import ConditionalLambda, ConstantLambda, WeightedLambda


@dataclass(frozen=True)
class SplitConformal:
    """The j-th smallest critical lambda: coverage is at least Beta(n + 1 - j, j), whatever the errors.

    The certainty determines j (Papadopoulos et al. 2002).
    """

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


@dataclass(frozen=True)
class WeightedConformal:
    """Critical lambdas weighted by their images' weights, the new image by its own (Tibshirani et al. 2019).

    The weights are the likelihood ratios of a known covariate shift.
    """

    confidence: float
    on_grid: ClassVar[bool] = False
    reads: ClassVar[frozenset[str]] = frozenset({"weight"})

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the number of effective images: confidence / (1 - confidence), rounded up."""
        return smallest_marginal_set(self.confidence)

    def rank(self, n: int) -> None:
        """Return None: images count by their weights."""

    def rule(self, evidence: CalibrationData) -> WeightedLambda:
        """Return for each image max{lam : weight of critical lambdas below and its own <= 1 - confidence}."""
        return WeightedLambda.of(evidence.critical_lambdas, evidence.column("weight"), self.confidence)


@dataclass(frozen=True)
class Hierarchical:
    """The promise for an image of a new group: all groups weigh alike, and the new one counts as failing.

    This is hierarchical conformal prediction (Lee, Barber and Willett 2023).
    """

    confidence: float
    on_grid: ClassVar[bool] = False
    reads: ClassVar[frozenset[str]] = frozenset({"group"})

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the least number of groups, confidence / (1 - confidence) rounded up.

        Masks that are not too large take many more.
        """
        return smallest_marginal_set(self.confidence)

    def rank(self, n: int) -> None:
        """Return None: images of a group count together."""

    def rule(self, evidence: CalibrationData) -> ConstantLambda:
        """Return max{lam : sum_g mean_{i in g} 1{lam_gi < lam} + 1 <= (1 - confidence)(K + 1)}, K groups."""
        _, group, count = np.unique(evidence.column("group"), return_inverse=True, return_counts=True)
        share = 1 / (len(count) + 1)
        weights = share / count[group]
        return ConstantLambda(largest_lambda(evidence.critical_lambdas, weights, 1 - self.confidence - share))


@dataclass(frozen=True)
class ConditionalConformal:
    """Regress a quantile of log critical lambdas on features of the scores, with the new image.

    Coverage is at least the confidence not only over all images, but weighted by any non-negative function
    in the span of the features and 1 (Gibbs, Cherian and Candes 2023). Critical lambdas beyond the ends of
    the grid, which comes from selection images, count as these ends.
    """

    confidence: float
    on_grid: ClassVar[bool] = False
    reads: ClassVar[frozenset[str]] = frozenset({"features"})

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the number without features, confidence / (1 - confidence) rounded up; they take more."""
        return smallest_marginal_set(self.confidence)

    def rank(self, n: int) -> None:
        """Return None: each image has its own."""

    def rule(self, evidence: CalibrationData) -> ConditionalLambda:
        """Return the rule of the images' features and critical lambdas; on a grid if not monotone."""
        grid = evidence.curves.grid
        lowest, highest, critical = float(grid[1]), float(grid[-2]), evidence.critical_lambdas
        ends = (math.log(lowest) - 1, math.log(highest))
        # a lambda below the grid has a logarithm of its own, or an image with the lowest would be hidden
        logs = np.where(critical < lowest, ends[0], np.log(critical.clip(lowest, highest)))
        features = evidence.column("features")
        return ConditionalLambda(features, logs, ends, self.confidence, None if evidence.monotone else grid)
