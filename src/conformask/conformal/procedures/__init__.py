"""The table of promises that have a theorem; other combinations of axes are refused.

Theorems about ranks of critical lambdas are in `split_conformal`, theorems about means in `risk_control`.
"""

from itertools import product
from typing import NamedTuple

from conformask.conformal.certainty import Certainty, Marginal, Simultaneous, TrainingConditional
from conformask.conformal.lambdas import Adaptive, Constant, Lambda
from conformask.conformal.populations import EachCategory, Population, SamePopulation, Weighted
from conformask.conformal.procedures.procedure import INNER, Mondrian, PerGroup
from conformask.conformal.procedures.procedure import Procedure as Procedure
from conformask.conformal.procedures.risk_control import (
    RCPS,
    ConformalRiskControl,
    GroupShareBound,
    LearnThenTest,
    hoeffding_bentkus,
)
from conformask.conformal.procedures.split_conformal import (
    ConditionalConformal,
    Hierarchical,
    SplitConformal,
    WeightedConformal,
)
from conformask.conformal.statements import ConditionalExpectedLoss, Coverage, ExpectedLoss, Statement
from conformask.conformal.units import Group, Image, ImageOfNewGroup, Unit
from conformask.errors import InvalidArgumentError


class Axes(NamedTuple):
    """The axes of a promise."""

    statement: Statement
    certainty: Certainty
    unit: Unit
    population: Population
    lam: Lambda


def procedure_for(axes: Axes) -> Procedure:
    """Return the theorem by which a promise with these axes can be given.

    Raises:
        InvalidArgumentError: there is none; names the nearest promise that has one.
    """
    procedure = _find_procedure(axes)
    if procedure is None:
        raise InvalidArgumentError(
            f"no theorem is known for {words(axes)}: use {words(_find_nearest(axes))} instead"
        )
    return procedure


def _find_procedure(axes: Axes) -> Procedure | None:
    """Look up the theorem in the table; None where there is none."""
    match axes:
        case (
            Coverage(c),
            TrainingConditional(delta, "fixed_sequence"),
            Image(),
            SamePopulation(),
            Constant(),
        ):
            return LearnThenTest(c, delta)
        case (
            Coverage(c),
            Marginal() | Simultaneous() | TrainingConditional(test=None) as certainty,
            Image(),
            SamePopulation(),
            Constant(),
        ):
            return SplitConformal(c, certainty)
        case (Coverage(c), Marginal(), Image(), SamePopulation(), Adaptive()):
            return ConditionalConformal(c)
        case (statement, certainty, unit, EachCategory(), Constant() as lam):
            inner = _find_procedure(Axes(statement, certainty, unit, SamePopulation(), lam))
            return (
                None if inner is None or isinstance(statement, ConditionalExpectedLoss) else Mondrian(inner)
            )
        case (Coverage(c), Marginal(), Image(), Weighted(), Constant()):
            return WeightedConformal(c)
        case (Coverage(c), Marginal(), ImageOfNewGroup(), SamePopulation(), Constant()):
            return Hierarchical(c)
        case (Coverage(c), TrainingConditional(delta, None), ImageOfNewGroup(), SamePopulation(), Constant()):
            return GroupShareBound(c, delta)
        case (
            ExpectedLoss() | ConditionalExpectedLoss() as statement,
            Marginal(),
            Image(),
            SamePopulation(),
            Constant(),
        ):
            return ConformalRiskControl(statement)
        case (ExpectedLoss(), TrainingConditional(delta, None), Image(), SamePopulation(), Constant()):
            return RCPS(delta)
        case (
            ExpectedLoss(),
            TrainingConditional(delta, "hoeffding_bentkus"),
            Image(),
            SamePopulation(),
            Constant(),
        ):
            return RCPS(delta, hoeffding_bentkus)
        case (
            Coverage() | ExpectedLoss(),
            certainty,
            Group() as unit,
            SamePopulation() | Weighted(),
            Constant(),
        ):
            return _over_units(unit, axes)
        case (ExpectedLoss(), certainty, ImageOfNewGroup() as unit, SamePopulation(), Constant()):
            return _over_units(unit, axes)
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
        differing = [a != b for a, b in zip(axes, candidate, strict=True)]
        return (
            sum(differing),
            candidate.unit != axes.unit,
            candidate.population != axes.population,
            differing[0],
        )

    return min(provable, key=differences)


def words(axes: Axes) -> str:
    """Return the axes in readable words, such as "a rate, on average, of images"."""
    return ", ".join(part for axis in axes if (part := axis.says))
