"""Promises: one value with axes; rule, claim and meaning follow from them."""

from dataclasses import dataclass, replace

from conformask.conformal.certainty import Certainty, OnAverage, WholeTable
from conformask.conformal.evidence import Evidence
from conformask.conformal.lambdas import Adaptive, Constant, Lambda
from conformask.conformal.populations import One, Population
from conformask.conformal.rules import Rule
from conformask.conformal.statements import ConditionalMean, Rate, Statement
from conformask.conformal.theorems import Axes, Theorem, theorem_of
from conformask.conformal.units import Columns, Image, Unit


@dataclass(frozen=True)
class Promise:
    """A promise about losses, and the theorem behind it.

    Raises:
        InvalidArgumentError: axes for which no theorem is known.
    """

    name: str
    """The name of the guarantee, in `presets`."""
    statement: Statement
    """The statement about new images: a share that meets the threshold, or a mean."""
    certainty: Certainty = OnAverage()
    """The calibration sets for which the statement holds."""
    unit: Unit = Image()
    """The unit counted: an image, a group, or an image of a new group."""
    population: Population = One()
    """The population of images that the statement is about."""
    lam: Lambda = Constant()
    """Whether all images have the same lambda, or each its own."""

    def __post_init__(self) -> None:
        theorem_of(self.axes)

    @property
    def axes(self) -> Axes:
        """The axes: all fields but the name."""
        return Axes(self.statement, self.certainty, self.unit, self.population, self.lam)

    @property
    def theorem(self) -> Theorem:
        """The theorem by which the promise can be given."""
        return theorem_of(self.axes)

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
        """Whether groups are counted, all alike, however many images they have."""
        return "group" in self.unit.reads

    @property
    def on_grid(self) -> bool:
        """Whether lambda is a point of the grid, even where critical lambdas are exact."""
        return self.theorem.on_grid

    @property
    def own_bounds(self) -> bool:
        """Whether the promise uses each image's own bound, where there is one."""
        return "bound_curve" in self.theorem.reads

    @property
    def selects(self) -> bool:
        """Whether the promise needs choices made on selection images; see `fixed`."""
        return self.statement.selects or self.certainty.selects or self.lam.selects

    @property
    def plural(self) -> str:
        """The name of the units counted: images, groups, ..."""
        return self.population.plural(self.unit)

    def counted(self, n: int, columns: Columns) -> tuple[int, str]:
        """Return the number of units in n images with these groups, categories and weights, and a name."""
        return self.population.count(self.unit, n, columns)

    def claim(self, distance: str, threshold: float) -> str:
        """Return the promise as a formula."""
        given = self.population.given
        if self.statement.bounds_a_mean:
            distance = self.unit.distance(distance)
        else:
            given = self.unit.given + given
        claim = self.certainty.claim(self.statement.claim(distance, threshold, given))
        return claim if self.delta is None else self.population.by_itself + claim

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest number of units that can suffice; see `Theorem`."""
        return self.theorem.smallest_calibration_set(threshold, upper_bound)

    def rank(self, n: int) -> int | None:
        """Return which of n ascending critical lambdas is deployed; None where it is not one of them."""
        return self.theorem.rank(n)

    def fixed(self, selection: Evidence, n: int) -> "Promise":
        """Return the promise with every choice made that must not see the n calibration images."""
        statement, certainty, lam = self.statement, self.certainty, self.lam
        if isinstance(statement, ConditionalMean):
            statement = statement.fixed(selection, n)
        if isinstance(certainty, WholeTable):
            certainty = certainty.fixed(selection)
        if isinstance(lam, Adaptive) and isinstance(statement, Rate):
            lam = lam.fixed(selection, statement.confidence)
        return replace(self, statement=statement, certainty=certainty, lam=lam)

    def rule(self, evidence: Evidence) -> Rule:
        """Return the rule from facts about images to their lambdas; void if the promise cannot be given."""
        return self.theorem.rule(evidence)
