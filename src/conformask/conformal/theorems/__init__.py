"""Which promises have a theorem, one file a theorem; any other combination of axes is refused here."""

from itertools import product
from typing import NamedTuple, Protocol, runtime_checkable

from conformask.conformal.bounds import hoeffding_bentkus
from conformask.conformal.certainty import Certainty, OnAverage, WholeTable, WithProbability
from conformask.conformal.evidence import Evidence
from conformask.conformal.lambdas import Adaptive, Constant, Lambda
from conformask.conformal.populations import EachCategory, One, Population, Weighted
from conformask.conformal.rules import Rule
from conformask.conformal.statements import ConditionalMean, Mean, Rate, Statement
from conformask.conformal.theorems.each_category import InEachCategory
from conformask.conformal.theorems.fixed_sequence import FixedSequence
from conformask.conformal.theorems.hierarchical import Hierarchical
from conformask.conformal.theorems.likelihood_ratio import LikelihoodRatio
from conformask.conformal.theorems.normalised import Normalised
from conformask.conformal.theorems.ranked import Ranked
from conformask.conformal.theorems.risk_bound import RiskBound
from conformask.conformal.theorems.risk_control import RiskControl
from conformask.conformal.units import Image, Member, Unit
from conformask.errors import InvalidArgumentError


@runtime_checkable
class Theorem(Protocol):
    """Turns what calibration images say into a rule that keeps a promise."""

    @property
    def on_grid(self) -> bool:
        """Whether lambda is a point of the grid, also where critical lambdas are exact."""

    @property
    def reads(self) -> frozenset[str]:
        """What it reads of each image: group, category, weight, features, or its bound_curve."""

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """The smallest number of units that can do.

        threshold, and the constant upper bound of the distance, matter for promises about a mean.
        """

    def rank(self, n: int) -> int | None:
        """Which of n critical lambdas, ascending, is deployed; None where it is not one of them.

        Coverage then has a known law: see `order.coverage_range` and `law.met_law`.
        """

    def rule(self, evidence: Evidence) -> Rule:
        """The rule; it is void, and masks everything, where the promise cannot be given."""


class Axes(NamedTuple):
    """What a promise is made of."""

    statement: Statement
    certainty: Certainty
    unit: Unit
    population: Population
    lam: Lambda


def theorem_of(axes: Axes) -> Theorem:
    """The theorem by which such a promise can be given.

    Raises:
        InvalidArgumentError: there is none; names the nearest promise that has one.
    """
    theorem = _known(axes)
    if theorem is None:
        raise InvalidArgumentError(
            f"no theorem is known for {words(axes)}: take {words(_nearest(axes))} instead"
        )
    return theorem


def _known(axes: Axes) -> Theorem | None:
    """The table."""
    match axes:
        case (Rate(c), WithProbability(delta, "fixed_sequence"), Image(), One(), Constant()):
            return FixedSequence(c, delta)
        case (
            Rate(c),
            OnAverage() | WholeTable() | WithProbability(test=None) as sure,
            Image(),
            One(),
            Constant(),
        ):
            return Ranked(c, sure)
        case (Rate(c), OnAverage() as sure, Image(), One(), Adaptive(h)):
            return Normalised(c, sure, h)
        case (Rate(c), OnAverage() as sure, Image(), EachCategory(), Constant()):
            return InEachCategory(Ranked(c, sure))
        case (Rate(c), OnAverage(), Image(), Weighted(), Constant()):
            return LikelihoodRatio(c)
        case (Rate(c), OnAverage(), Member(), One(), Constant()):
            return Hierarchical(c)
        case (Mean() | ConditionalMean() as statement, OnAverage(), Image(), One(), Constant()):
            return RiskControl(statement)
        case (Mean(), WithProbability(delta, None), Image(), One(), Constant()):
            return RiskBound(delta)
        case (Mean(), WithProbability(delta, "hoeffding_bentkus"), Image(), One(), Constant()):
            return RiskBound(delta, hoeffding_bentkus)
    return None


def _nearest(axes: Axes) -> Axes:
    """Those that have a theorem and differ on the fewest axes, wishes before facts of the data."""
    confidence, delta = axes.statement.confidence or 0.9, axes.certainty.delta or 0.05
    choices = (
        (axes.statement, Rate(confidence), Mean(), ConditionalMean(confidence)),
        (axes.certainty, OnAverage(), WithProbability(delta), WholeTable(delta)),
        (axes.unit, Image(), Member()),
        (axes.population, One(), EachCategory(), Weighted()),
        (axes.lam, Constant(), Adaptive()),
    )
    candidates = [Axes(*each) for each in product(*choices)]
    provable = [each for each in candidates if _known(each) is not None]

    def differences(each: Axes) -> tuple[int, bool, bool, bool]:
        changed = [a != b for a, b in zip(axes, each, strict=True)]
        return sum(changed), each.unit != axes.unit, each.population != axes.population, changed[0]

    return min(provable, key=differences)


def words(axes: Axes) -> str:
    """The axes as a person reads them, such as "a rate, on average, of images"."""
    return ", ".join(part for axis in axes if (part := axis.says))
