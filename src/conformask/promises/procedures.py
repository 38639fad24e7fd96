"""The theorems behind promises, and the table of the combinations of axes that have one.

Other combinations are refused.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float

from conformask.errors import InvalidArgumentError
from conformask.promises.axes import (
    Adaptive,
    Certainty,
    ConditionalExpectedLoss,
    Constant,
    Coverage,
    EachCategory,
    ExpectedLoss,
    Group,
    Image,
    ImageOfNewGroup,
    Lambda,
    Marginal,
    Population,
    SamePopulation,
    Simultaneous,
    Statement,
    TrainingConditional,
    Unit,
    Weighted,
    members,
    require_threshold,
    tail_risk,
)
from conformask.promises.order import (
    ROUNDING,
    CalibrationData,
    largest_lambda,
    meets_threshold,
    smallest,
    smallest_binomial_set,
    smallest_marginal_set,
    smallest_set,
)
from conformask.promises.rules import (
    BoundedRisk,
    CategoryLambda,
    ConditionalLambda,
    ConstantLambda,
    Rule,
    WeightedLambda,
)
from conformask.records.record import hash_of_text

Certifies = Callable[[Float[np.ndarray, "n"], float, float], bool]
"""A test (losses, level, delta) -> bool that the mean is <= level; wrongly true with probability <= delta."""
FAINT = 1e-5
"""The smallest level for which the smallest set is searched, hundreds of thousands of images."""


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


class Procedure(ABC):
    """A theorem: makes a rule that keeps a promise from the evidence of calibration images."""

    @property
    def on_grid(self) -> bool:
        """True if lambda is a point of the grid, even where critical lambdas are exact."""
        return False

    @property
    def reads(self) -> frozenset[str]:
        """The columns read for each image: group, category, weight, features, or its bound_curve."""
        return frozenset()

    @abstractmethod
    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest number of units that can suffice.

        The threshold and the constant upper bound of the loss matter for promises about a mean.
        """

    def rank(self, n: int) -> int | None:
        """Return which of n ascending critical lambdas is deployed; None where it is not one of them.

        If there is a rank, coverage has a known law: see `order.coverage_range` and `coverage_test`.
        """
        return None

    def smallest_of_rank(self, rank: int) -> int | None:
        """Return the smallest number of units with this rank; None where there are no ranks."""
        return None

    @abstractmethod
    def rule(self, evidence: CalibrationData) -> Rule:
        """Return the rule; it is void, and masks everything, where the promise cannot be given."""


@dataclass(frozen=True)
class _OfMarginalShare(Procedure):
    """Common part of theorems for a share on average over calibration sets."""

    confidence: float

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return confidence / (1 - confidence), rounded up; masks that are not too large take many more."""
        return smallest_marginal_set(self.confidence)


@dataclass(frozen=True)
class RCPS(Procedure):
    """The largest grid point up to which the mean risk is certified, for most calibration sets.

    These are risk-controlling sets (Bates et al. 2021), for independent images and a bounded loss.
    """

    delta: float
    certifies: Certifies = waudby_smith_ramdas
    on_grid = True

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest n that suffices without any error; 1 if the loss has no bound."""
        if upper_bound is None:
            return 1
        level = require_threshold(threshold) / upper_bound
        if level < FAINT:  # no test certifies fewer; to search for the number would take gigabytes
            return math.ceil(math.log(self.delta) / math.log1p(-level))
        return smallest_set(lambda n: self.certifies(np.zeros(n), level, self.delta))

    def rule(self, evidence: CalibrationData) -> ConstantLambda:
        """Return the largest grid point up to which the mean risk is certified at every step."""
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
class GroupShareBound(Procedure):
    """The largest lambda at which the mean of F_g(lam), group g's share with lam_i < lam, is certified.

    F_g is nondecreasing and changes only at critical lambdas, so no grid is needed. Groups are independent
    draws (Bates et al. 2021).
    """

    confidence: float
    delta: float
    reads = frozenset({"group"})

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest number of groups that suffices if no image fails."""
        return smallest_set(lambda k: self._certifies(np.zeros(k)))

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
class LearnThenTest(Procedure):
    """Learn then test: the grid is ascended until a test fails (Angelopoulos et al. 2021).

    It needs no monotonicity: images may fail at smaller and pass at larger lambdas.
    """

    confidence: float
    delta: float
    on_grid = True

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest n with confidence^n <= delta."""
        return smallest_binomial_set(self.confidence, self.delta)

    def rule(self, evidence: CalibrationData) -> ConstantLambda:
        """Return the last grid point before the first with too many failures; 0 if the first has too many."""
        failures = (~meets_threshold(evidence.curves.loss[:, 1:], evidence.threshold)).sum(axis=0)
        p_values = scipy.stats.binom.cdf(failures, evidence.n, 1 - self.confidence)
        accepted = p_values > self.delta * (1 + ROUNDING)
        last = int(accepted.argmax()) if accepted.any() else len(accepted)
        return ConstantLambda(float(np.asarray(evidence.curves.grid)[last]))


@dataclass(frozen=True)
class ConformalRiskControl(Procedure):
    """The rule max{lam on the grid : (sum of tail risks + that of the bound) / (n + 1) <= threshold}.

    The bound is that of the loss, or the image's own where it has one (Angelopoulos et al. 2024).
    """

    statement: ExpectedLoss | ConditionalExpectedLoss
    on_grid = True
    reads = frozenset({"bound_curve"})

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the least n for which closed masks suffice; 1 if images have their own bounds."""
        if upper_bound is None:
            return 1
        t, steepness = self.statement.t, self.statement.steepness
        needed = (tail_risk(np.array(upper_bound), t, steepness) - t) / (require_threshold(threshold) - t)
        return max(1, math.ceil(float(needed) * (1 - ROUNDING)) - 1)

    def rule(self, evidence: CalibrationData) -> ConstantLambda | BoundedRisk:
        """Return a rule by the bound of each image, or one lambda for all."""
        t, steepness = self.statement.t, self.statement.steepness
        total = tail_risk(evidence.risk(), t, steepness).sum(axis=0)
        rule = BoundedRisk(evidence.curves.grid, total, evidence.n, evidence.threshold, t, steepness)
        if evidence.own_bound:
            return rule
        bound = np.full((1, len(evidence.curves.grid)), evidence.bound())
        return ConstantLambda(float(rule.lambdas(bound)[0]))


@dataclass(frozen=True)
class SplitConformal(Procedure):
    """The j-th smallest critical lambda: coverage is at least Beta(n + 1 - j, j), whatever the errors.

    The certainty determines j (Papadopoulos et al. 2002).
    """

    confidence: float
    certainty: Certainty

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest n whose rank is at least 1."""
        return self.smallest_of_rank(1)

    def smallest_of_rank(self, rank: int) -> int:
        """Return the smallest n whose j is at least this."""
        return self.certainty.smallest_set(self.confidence, rank)

    def rank(self, n: int) -> int:
        """Return j; 0 is none."""
        return self.certainty.rank(n, self.confidence)

    def rule(self, evidence: CalibrationData) -> ConstantLambda:
        """Return the j-th smallest critical lambda; 0 where that is void."""
        return ConstantLambda(smallest(evidence.critical_lambdas, self.rank(evidence.n)))


@dataclass(frozen=True)
class WeightedConformal(_OfMarginalShare):
    """Critical lambdas weighted by their images' weights, the new image by its own (Tibshirani et al. 2019).

    The weights are the likelihood ratios of a known covariate shift.
    """

    reads = frozenset({"weight"})

    def rule(self, evidence: CalibrationData) -> WeightedLambda:
        """Return for each image max{lam : weight of critical lambdas below and its own <= 1 - confidence}."""
        return WeightedLambda.of(evidence.critical_lambdas, evidence.column("weight"), self.confidence)


@dataclass(frozen=True)
class Hierarchical(_OfMarginalShare):
    """The promise for an image of a new group: all groups weigh alike, and the new one counts as failing.

    This is hierarchical conformal prediction (Lee, Barber and Willett 2023).
    """

    reads = frozenset({"group"})

    def rule(self, evidence: CalibrationData) -> ConstantLambda:
        """Return max{lam : sum_g mean_{i in g} 1{lam_gi < lam} + 1 <= (1 - confidence)(K + 1)}, K groups."""
        _, group, count = np.unique(evidence.column("group"), return_inverse=True, return_counts=True)
        share = 1 / (len(count) + 1)
        weights = share / count[group]
        return ConstantLambda(largest_lambda(evidence.critical_lambdas, weights, 1 - self.confidence - share))


@dataclass(frozen=True)
class ConditionalConformal(_OfMarginalShare):
    """Regress a quantile of log critical lambdas on features of the scores, with the new image.

    Coverage is at least the confidence not only over all images, but weighted by any non-negative function
    in the span of the features and 1 (Gibbs, Cherian and Candes 2023). Critical lambdas beyond the ends of
    the grid, which comes from selection images, count as these ends.
    """

    reads = frozenset({"features"})

    def rule(self, evidence: CalibrationData) -> ConditionalLambda:
        """Return the rule of the images' features and critical lambdas; on a grid if not monotone."""
        grid = evidence.curves.grid
        lowest, highest, critical = float(grid[1]), float(grid[-2]), evidence.critical_lambdas
        ends = (math.log(lowest) - 1, math.log(highest))
        # a lambda below the grid has a logarithm of its own, or an image with the lowest would be hidden
        logs = np.where(critical < lowest, ends[0], np.log(critical.clip(lowest, highest)))
        features = evidence.column("features")
        return ConditionalLambda(features, logs, ends, self.confidence, None if evidence.monotone else grid)


class _OfUnits(Procedure):
    """Common part of theorems that are applied to parts of the calibration images, or to groups of them."""

    inner: Procedure

    @property
    def on_grid(self) -> bool:
        """True if lambda is a point of the grid, as for the inner theorem."""
        return self.inner.on_grid

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest number of units, in each category if these are apart."""
        return self.inner.smallest_calibration_set(threshold, upper_bound)


@dataclass(frozen=True)
class Mondrian(_OfUnits):
    """A theorem applied to each category by itself, which then has its own lambda (Vovk et al. 2003).

    delta, if any, holds for each category.
    """

    inner: Procedure

    @property
    def reads(self) -> frozenset[str]:
        """The columns of the inner theorem, without the bound of an image, and the category."""
        return (self.inner.reads - {"bound_curve"}) | {"category"}

    def rule(self, evidence: CalibrationData) -> CategoryLambda:
        """Return a lambda for each category; 0 for one with too few images."""
        categories, lambdas = evidence.column("category"), {}
        for category in np.unique(categories):
            category_data = replace(evidence.take(np.flatnonzero(categories == category)), own_bound=False)
            rule = self.inner.rule(category_data)
            lambdas[str(category)] = float(rule(category_data.curves.covariates)[0])
        return CategoryLambda(lambdas)


INNER = (SplitConformal, LearnThenTest, WeightedConformal, ConformalRiskControl, RCPS)
"""Theorems that hold for any units that are exchangeable, or independent where they require it."""


@dataclass(frozen=True)
class PerGroup(_OfUnits):
    """A theorem about units, applied to whole groups, whatever their sizes."""

    unit: Group | ImageOfNewGroup
    inner: SplitConformal | LearnThenTest | WeightedConformal | ConformalRiskControl | RCPS

    @property
    def reads(self) -> frozenset[str]:
        """The columns of the inner theorem, without the bound of an image, and the group."""
        return (self.inner.reads - {"bound_curve"}) | self.unit.reads

    def rank(self, n: int) -> int | None:
        """Return the rank among n units."""
        return self.inner.rank(n)

    def smallest_of_rank(self, rank: int) -> int | None:
        """Return the smallest number of units with this rank."""
        return self.inner.smallest_of_rank(rank)

    def rule(self, evidence: CalibrationData) -> Rule:
        """Return the rule for the units."""
        return self.inner.rule(self.unit.reduce(evidence))


class Axes(NamedTuple):
    """The axes of a promise."""

    statement: Statement
    """The statement about new images: a share that meets the threshold, or a mean."""
    certainty: Certainty = Marginal()
    """The calibration sets for which the statement holds."""
    unit: Unit = Image()
    """The unit counted: an image, a group, or an image of a new group."""
    population: Population = SamePopulation()
    """The population of images that the statement is about."""
    lam: Lambda = Constant()
    """Whether all images have the same lambda, or each its own."""


def procedure_for(axes: Axes) -> Procedure:
    """Return the theorem by which a promise with these axes can be given."""
    procedure = _find_procedure(axes)
    if procedure is None:
        raise InvalidArgumentError(
            f"no theorem is known for {words(axes)}: use {words(_find_nearest(axes))} instead"
        )
    return procedure


def _find_procedure(axes: Axes) -> Procedure | None:
    """Look up the theorem in the table; None where there is none."""
    match axes:
        case (statement, certainty, Image(), SamePopulation(), Constant()):
            return _of_images(statement, certainty)
        case (Coverage(c), Marginal(), Image(), SamePopulation(), Adaptive()):
            return ConditionalConformal(c)
        case (ConditionalExpectedLoss(), _, _, EachCategory(), _):
            return None
        case (_, _, _, EachCategory(), Constant()):
            inner = _find_procedure(axes._replace(population=SamePopulation()))
            return None if inner is None else Mondrian(inner)
        case (Coverage(c), Marginal(), Image(), Weighted(), Constant()):
            return WeightedConformal(c)
        case (Coverage(c), Marginal(), ImageOfNewGroup(), SamePopulation(), Constant()):
            return Hierarchical(c)
        case (Coverage(c), TrainingConditional(delta, None), ImageOfNewGroup(), SamePopulation(), Constant()):
            return GroupShareBound(c, delta)
        case (Coverage() | ExpectedLoss(), _, Group() as unit, SamePopulation() | Weighted(), Constant()):
            return _over_units(unit, axes)
        case (ExpectedLoss(), _, ImageOfNewGroup() as unit, SamePopulation(), Constant()):
            return _over_units(unit, axes)
    return None


def _of_images(statement: Statement, certainty: Certainty) -> Procedure | None:
    """Return the theorem with one lambda for images of the same population."""
    match statement, certainty:
        case Coverage(c), TrainingConditional(delta, "fixed_sequence"):
            return LearnThenTest(c, delta)
        case Coverage(c), Marginal() | Simultaneous() | TrainingConditional(test=None):
            return SplitConformal(c, certainty)
        case ExpectedLoss() | ConditionalExpectedLoss(), Marginal():
            return ConformalRiskControl(statement)
        case ExpectedLoss(), TrainingConditional(delta, None):
            return RCPS(delta)
        case ExpectedLoss(), TrainingConditional(delta, "hoeffding_bentkus"):
            return RCPS(delta, hoeffding_bentkus)
    return None


def _over_units(unit: Group | ImageOfNewGroup, axes: Axes) -> Procedure | None:
    """Return the theorem about images, applied to groups that count as one each."""
    inner = _find_procedure(axes._replace(unit=Image()))
    return PerGroup(unit, inner) if isinstance(inner, INNER) else None


def _find_nearest(axes: Axes) -> Axes:
    """Return the provable axes that differ least, preferring changes of wishes to changes of data facts."""
    confidence, delta = axes.statement.confidence or 0.9, axes.certainty.delta or 0.05
    choices = (
        (axes.statement, Coverage(confidence), ExpectedLoss(), ConditionalExpectedLoss(confidence)),
        (axes.certainty, Marginal(), TrainingConditional(delta), Simultaneous(delta)),
        (axes.unit, Image(), ImageOfNewGroup(), Group()),
        (axes.population, SamePopulation(), EachCategory(), Weighted()),
        (axes.lam, Constant(), Adaptive()),
    )
    # few enough axes to try all combinations against the table
    candidates = [Axes(*candidate) for candidate in product(*choices)]
    provable = [candidate for candidate in candidates if _find_procedure(candidate) is not None]

    def differences(candidate: Axes) -> tuple[int, bool, bool, bool]:
        statement, certainty, unit, population, lam = (a != b for a, b in zip(axes, candidate, strict=True))
        return statement + certainty + unit + population + lam, unit, population, statement

    return min(provable, key=differences)


def words(axes: Axes) -> str:
    """Return the axes in readable words, such as "a rate, on average, of images"."""
    return ", ".join(part for axis in axes if (part := axis.says))
