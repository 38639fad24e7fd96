"""Promises: one value with axes, from which rule, claim and meaning follow; and how many images one needs."""

from dataclasses import dataclass, replace

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.certainty import Certainty, Marginal, Simultaneous
from conformask.conformal.lambdas import Constant, Lambda
from conformask.conformal.order import coverage_range, smallest_set
from conformask.conformal.populations import Population, SamePopulation
from conformask.conformal.procedures import Axes, procedure_for
from conformask.conformal.procedures.procedure import Procedure
from conformask.conformal.rules import Rule
from conformask.conformal.statements import ConditionalExpectedLoss, Statement
from conformask.conformal.units import Columns, Image, Unit

SIZES = (1, 2, 5, 10, 20, 50)
"""Multiples of the smallest set that a plan lists."""


@dataclass(frozen=True)
class Guarantee:
    """A promise about losses, and the theorem behind it.

    Raises:
        InvalidArgumentError: axes for which no theorem is known.
    """

    name: str
    """The name of the guarantee, in `presets`."""
    statement: Statement
    """The statement about new images: a share that meets the threshold, or a mean."""
    certainty: Certainty = Marginal()
    """The calibration sets for which the statement holds."""
    unit: Unit = Image()
    """The unit counted: an image, a group, or an image of a new group."""
    population: Population = SamePopulation()
    """The population of images that the statement is about."""
    lam: Lambda = Constant()
    """True if all images have the same lambda, or each its own."""

    def __post_init__(self) -> None:
        procedure_for(self.axes)

    @property
    def axes(self) -> Axes:
        """The axes: all fields but the name."""
        return Axes(self.statement, self.certainty, self.unit, self.population, self.lam)

    @property
    def procedure(self) -> Procedure:
        """The theorem by which the promise can be given."""
        return procedure_for(self.axes)

    @property
    def confidence(self) -> float | None:
        """The promised probability; None for a mean."""
        return self.statement.confidence

    @property
    def delta(self) -> float | None:
        """The share of calibration sets for which the promise may fail; None where it averages over them."""
        return self.certainty.delta

    @property
    def columns(self) -> frozenset[str]:
        """The columns needed for each image: group, category, weight."""
        return self.unit.reads | self.population.reads

    @property
    def by_group(self) -> bool:
        """True if groups are counted, all alike, however many images they have."""
        return "group" in self.unit.reads

    @property
    def on_grid(self) -> bool:
        """True if lambda is a point of the grid, even where critical lambdas are exact."""
        return self.procedure.on_grid

    @property
    def own_bounds(self) -> bool:
        """True if the promise uses each image's own bound, where there is one."""
        return "bound_curve" in self.procedure.reads

    @property
    def needs_selection(self) -> bool:
        """True if the promise needs choices made on selection images; see `fixed`."""
        return self.statement.needs_selection or self.certainty.needs_selection or self.lam.needs_selection

    @property
    def plural(self) -> str:
        """The name of the units counted: images, groups, ..."""
        return self.population.plural(self.unit)

    def counted(self, n: int, columns: Columns) -> tuple[int, str]:
        """Return the number of units in n images with these groups, categories and weights, and a name."""
        return self.population.count(self.unit, n, columns)

    def claim(self, loss: str, threshold: float) -> str:
        """Return the promise as a formula."""
        given = self.population.given
        if self.statement.bounds_a_mean:
            loss = self.unit.statistic_of(loss)
        else:
            given = self.unit.given + given
        claim = self.certainty.claim(self.statement.claim(loss, threshold, given))
        return claim if self.delta is None else self.population.by_itself + claim

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest number of units that can suffice; see `Procedure`."""
        return self.procedure.smallest_calibration_set(threshold, upper_bound)

    def rank(self, n: int) -> int | None:
        """Return which of n ascending critical lambdas is deployed; None where it is not one of them."""
        return self.procedure.rank(n)

    def fit_on_selection(self, selection: CalibrationData, n: int) -> "Guarantee":
        """Return the promise with every choice made that must not see the n calibration images."""
        statement, certainty = self.statement, self.certainty
        if isinstance(statement, ConditionalExpectedLoss):
            statement = statement.fit_on_selection(selection, n)
        if isinstance(certainty, Simultaneous):
            certainty = certainty.fit_on_selection(selection)
        return replace(self, statement=statement, certainty=certainty)

    def rule(self, evidence: CalibrationData) -> Rule:
        """Return the rule from facts about images to their lambdas; void if the promise cannot be given."""
        return self.procedure.rule(evidence)


@dataclass(frozen=True)
class Prospect:
    """The expected coverage with n calibration images."""

    n: int
    coverage: tuple[float, float] | None
    """The range of coverage for 90 % of calibration sets; None if n is too small or no law is known."""


@dataclass(frozen=True)
class CalibrationPlan:
    """The number of calibration units that a promise needs."""

    n_calibration: int
    """The smallest calibration set that supports the promise."""
    unit: str
    """The unit counted: images, groups, ..."""
    prospects: tuple[Prospect, ...]


def plan(
    promise: Guarantee, threshold: float | None = None, upper_bound: float | None = None, n: int | None = None
) -> CalibrationPlan:
    """Return the smallest calibration set, and coverage for it and larger ones (or for n).

    Raises:
        InvalidArgumentError: a promise about a mean without a threshold.
    """
    smallest_size = promise.smallest_calibration_set(threshold, upper_bound)
    sizes = [_size(promise, smallest_size, factor) for factor in SIZES] if n is None else [n]
    prospects = tuple(
        Prospect(size, None if size < smallest_size else coverage_range(size, promise.rank(size)))
        for size in sizes
    )
    return CalibrationPlan(smallest_size, promise.plural, prospects)


def _size(promise: Guarantee, smallest_size: int, factor: int) -> int:
    """Return about `factor` times the smallest size: where a rank is known, the smallest with that rank.

    From one such size to the next the rank stays the same and more is hidden, until the rank rises.
    """
    if promise.rank(smallest_size) is None:
        return smallest_size * factor
    return smallest_set(lambda n: (promise.rank(n) or 0) >= factor)
