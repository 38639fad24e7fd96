"""The table of promises that have a theorem, one file each; other combinations of axes are refused."""

from itertools import product
from typing import NamedTuple

from conformask.conformal.bounds import hoeffding_bentkus
from conformask.conformal.certainty import Certainty, OnAverage, WholeTable, WithProbability
from conformask.conformal.lambdas import Adaptive, Constant, Lambda
from conformask.conformal.populations import EachCategory, One, Population, Weighted
from conformask.conformal.statements import ConditionalMean, Mean, Rate, Statement
from conformask.conformal.theorems.each_category import InEachCategory
from conformask.conformal.theorems.failing_share import FailingShare
from conformask.conformal.theorems.fixed_sequence import FixedSequence
from conformask.conformal.theorems.hierarchical import Hierarchical
from conformask.conformal.theorems.likelihood_ratio import LikelihoodRatio
from conformask.conformal.theorems.normalised import Normalised
from conformask.conformal.theorems.over_units import INNER, OverUnits
from conformask.conformal.theorems.ranked import Ranked
from conformask.conformal.theorems.risk_bound import RiskBound
from conformask.conformal.theorems.risk_control import RiskControl
from conformask.conformal.theorems.theorem import Theorem as Theorem
from conformask.conformal.units import Group, Image, Member, Unit
from conformask.errors import InvalidArgumentError


class Axes(NamedTuple):
    """The axes of a promise."""

    statement: Statement
    certainty: Certainty
    unit: Unit
    population: Population
    lam: Lambda


def theorem_of(axes: Axes) -> Theorem:
    """Return the theorem by which a promise with these axes can be given.

    Raises:
        InvalidArgumentError: there is none; names the nearest promise that has one.
    """
    theorem = _known(axes)
    if theorem is None:
        raise InvalidArgumentError(
            f"no theorem is known for {words(axes)}: use {words(_nearest(axes))} instead"
        )
    return theorem


def _known(axes: Axes) -> Theorem | None:
    """Look up the theorem in the table; None where there is none."""
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
        case (statement, sure, unit, EachCategory(), Constant() as lam):
            inner = _known(Axes(statement, sure, unit, One(), lam))
            return None if inner is None or isinstance(statement, ConditionalMean) else InEachCategory(inner)
        case (Rate(c), OnAverage(), Image(), Weighted(), Constant()):
            return LikelihoodRatio(c)
        case (Rate(c), OnAverage(), Member(), One(), Constant()):
            return Hierarchical(c)
        case (Rate(c), WithProbability(delta, None), Member(), One(), Constant()):
            return FailingShare(c, delta)
        case (Mean() | ConditionalMean() as statement, OnAverage(), Image(), One(), Constant()):
            return RiskControl(statement)
        case (Mean(), WithProbability(delta, None), Image(), One(), Constant()):
            return RiskBound(delta)
        case (Mean(), WithProbability(delta, "hoeffding_bentkus"), Image(), One(), Constant()):
            return RiskBound(delta, hoeffding_bentkus)
        case (Rate() | Mean(), sure, Group() as unit, One() | Weighted(), Constant()):
            return _over_units(unit, axes)
        case (Mean(), sure, Member() as unit, One(), Constant()):
            return _over_units(unit, axes)
    return None


def _over_units(unit: Group | Member, axes: Axes) -> Theorem | None:
    """Return the theorem about images, applied to groups that count as one each."""
    inner = _known(axes._replace(unit=Image()))
    return OverUnits(unit, inner) if isinstance(inner, INNER) else None


def _nearest(axes: Axes) -> Axes:
    """Return the provable axes that differ least, preferring changes of wishes to changes of data facts."""
    confidence, delta = axes.statement.confidence or 0.9, axes.certainty.delta or 0.05
    choices = (
        (axes.statement, Rate(confidence), Mean(), ConditionalMean(confidence)),
        (axes.certainty, OnAverage(), WithProbability(delta), WholeTable(delta)),
        (axes.unit, Image(), Member(), Group()),
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
    """Return the axes in readable words, such as "a rate, on average, of images"."""
    return ", ".join(part for axis in axes if (part := axis.says))
