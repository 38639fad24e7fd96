"""Risk control: bounds on a mean or a share of failures, from tests and from conformal prediction."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy
from jaxtyping import Float

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.crossing import meets_threshold
from conformask.conformal.order import ROUNDING, smallest_binomial_set, smallest_set
from conformask.conformal.rules import BoundedRisk, ConstantLambda
from conformask.conformal.statements import (
    ConditionalExpectedLoss,
    ExpectedLoss,
    require_threshold,
    tail_risk,
)
from conformask.conformal.units import members
from conformask.storage.hashes import hash_of_text

Certifies = Callable[[Float[np.ndarray, "n"], float, float], bool]
"""A test (losses, level, delta) -> bool that the mean is <= level; wrongly true with probability <= delta."""


def waudby_smith_ramdas(losses: Float[np.ndarray, "n"], level: float, delta: float) -> bool:
    """Return whether bets against a mean above the level win 1 / delta (Waudby-Smith and Ramdas 2024).

    The stakes depend on earlier losses only, so the order of the losses counts.
    """
    n = len(losses)
    if level >= 1:
        return True
    count = np.arange(1, n + 1)
    mean = (0.5 + losses.cumsum()) / (count + 1)
    variance = (0.25 + ((losses - mean) ** 2).cumsum()) / (count + 1)
    # a stake may use only losses before its own, or the wealth would be no martingale
    earlier_variance = np.concatenate([[0.25], variance[:-1]])
    stake = np.minimum(1, np.sqrt(2 * math.log(1 / delta) / (n * earlier_variance)))
    with np.errstate(divide="ignore"):
        wealth = np.log1p(-stake * (losses - level)).cumsum()
    return bool(wealth.max() >= math.log(1 / delta) * (1 - ROUNDING))


def hoeffding_bentkus(losses: Float[np.ndarray, "n"], level: float, delta: float) -> bool:
    """Return whether the smaller of Hoeffding's and Bentkus' p-value is <= delta (Bates et al. 2021).

    Bentkus' takes the ceiling of the sum of losses; its floor would be optimistic.
    """
    n, total = len(losses), float(losses.sum())
    if level >= 1:
        return True
    hoeffding = math.exp(-n * _relative_entropy(min(total / n, level), level))
    bentkus = math.e * float(scipy.stats.binom.cdf(math.ceil(total * (1 - ROUNDING)), n, level))
    return min(hoeffding, bentkus) <= delta * (1 + ROUNDING)


def _relative_entropy(a: float, b: float) -> float:
    """Return the relative entropy of Bernoulli laws of means a <= b < 1."""
    first = a * math.log(a / b) if a > 0 else 0.0
    return first + ((1 - a) * math.log((1 - a) / (1 - b)) if a < 1 else 0.0)


@dataclass(frozen=True)
class RCPS:
    """The largest grid point up to which the mean risk is certified, for most calibration sets.

    These are risk-controlling sets (Bates et al. 2021), for independent images and a bounded loss.
    """

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
            InvalidArgumentError: the loss has no upper bound.
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


@dataclass(frozen=True)
class GroupShareBound:
    """The largest lambda at which the mean of F_g(lam), group g's share with lam_i < lam, is certified.

    F_g is nondecreasing and changes only at critical lambdas, so no grid is needed. Groups are independent
    draws (Bates et al. 2021).
    """

    confidence: float
    delta: float
    on_grid: ClassVar[bool] = False
    reads: ClassVar[frozenset[str]] = frozenset({"group"})

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest number of groups that suffices if no image fails."""
        return smallest_set(lambda k: self._certifies(np.zeros(k)))

    def rank(self, n: int) -> None:
        """Return None: images of a group count together."""

    def rule(self, evidence: CalibrationData) -> ConstantLambda:
        """Return the largest critical lambda up to which the mean share is certified at every step."""
        groups, candidates = evidence.column("group"), np.unique(evidence.critical_lambdas)
        rows = [np.sort(evidence.critical_lambdas[places]) for places in members(groups)]
        failing = np.stack([np.searchsorted(row, candidates, side="left") / len(row) for row in rows])
        # bets depend on the order of the groups, which nobody may choose after looking
        failing, lam = failing[hashed_order(np.unique(groups))], 0.0
        for candidate, shares in zip(candidates, failing.T, strict=True):
            if not self._certifies(shares):
                break
            lam = float(candidate)
        return ConstantLambda(lam)

    def _certifies(self, failing: np.ndarray) -> bool:
        return waudby_smith_ramdas(failing, 1 - self.confidence, self.delta)


@dataclass(frozen=True)
class LearnThenTest:
    """Learn then test: the grid is ascended until a test fails (Angelopoulos et al. 2021).

    It needs no monotonicity: images may fail at smaller and pass at larger lambdas.
    """

    confidence: float
    delta: float
    on_grid: ClassVar[bool] = True
    reads: ClassVar[frozenset[str]] = frozenset()

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest n with confidence^n <= delta."""
        return smallest_binomial_set(self.confidence, self.delta)

    def rank(self, n: int) -> None:
        """Return None: a grid point is deployed."""

    def rule(self, evidence: CalibrationData) -> ConstantLambda:
        """Return the last grid point before the first with too many failures; 0 if the first has too many."""
        failures = (~meets_threshold(evidence.curves.loss[:, 1:], evidence.threshold)).sum(axis=0)
        p_values = scipy.stats.binom.cdf(failures, evidence.n, 1 - self.confidence)
        accepted = p_values > self.delta * (1 + ROUNDING)
        last = int(accepted.argmax()) if accepted.any() else len(accepted)
        return ConstantLambda(float(np.asarray(evidence.curves.grid)[last]))


@dataclass(frozen=True)
class ConformalRiskControl:
    """The rule max{lam on the grid : (sum of tail risks + that of the bound) / (n + 1) <= threshold}.

    The bound is that of the loss, or the image's own where it has one (Angelopoulos et al. 2024).
    """

    statement: ExpectedLoss | ConditionalExpectedLoss
    on_grid: ClassVar[bool] = True
    reads: ClassVar[frozenset[str]] = frozenset({"bound_curve"})

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the least n for which closed masks suffice; 1 if images have their own bounds.

        Raises:
            InvalidArgumentError: no threshold is given.
        """
        if upper_bound is None:
            return 1
        t, steepness = self.statement.t, self.statement.steepness
        needed = (tail_risk(np.array(upper_bound), t, steepness) - t) / (require_threshold(threshold) - t)
        return max(1, math.ceil(float(needed) * (1 - ROUNDING)) - 1)

    def rank(self, n: int) -> None:
        """Return None: a mean is not a rank."""

    def rule(self, evidence: CalibrationData) -> ConstantLambda | BoundedRisk:
        """Return a rule by the bound of each image, or one lambda for all.

        Raises:
            InvalidArgumentError: the loss has no upper bound.
        """
        t, steepness = self.statement.t, self.statement.steepness
        total = tail_risk(evidence.risk(), t, steepness).sum(axis=0)
        rule = BoundedRisk(evidence.curves.grid, total, evidence.n, evidence.threshold, t, steepness)
        if evidence.own_bound:
            return rule
        bound = np.full((1, len(evidence.curves.grid)), evidence.bound())
        return ConstantLambda(float(rule.lambdas(bound)[0]))
