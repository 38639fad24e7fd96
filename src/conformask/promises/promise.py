"""A promise as people state it, the guarantee that it resolves to, and the named ones."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from conformask.errors import InvalidArgumentError, chosen
from conformask.promises.axes import (
    Adaptive,
    Certainty,
    Columns,
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
)
from conformask.promises.data import CalibrationData
from conformask.promises.order import coverage_range, smallest_set
from conformask.promises.procedures import Axes, Procedure, procedure_for
from conformask.promises.rules import Rule
from conformask.records import names

SIZES = (1, 2, 5, 10, 20, 50)
"""Multiples of the smallest set that a plan lists."""


@dataclass(frozen=True)
class Guarantee:
    """A promise about losses, and the theorem behind it."""

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
    """Return the smallest calibration set, and coverage for it and larger ones (or for n)."""
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


DEFAULTS = {"confidence": 0.9, "delta": 0.05}
"""Default values, for guarantees that take them."""


def marginal(confidence: float) -> Guarantee:
    """Promise P(d <= threshold) >= confidence over calibration and test image, if exchangeable."""
    return Guarantee("marginal", Coverage(confidence))


def pac(confidence: float, delta: float) -> Guarantee:
    """Promise P(d <= threshold | calibration set) >= confidence with probability 1 - delta over sets."""
    return Guarantee("pac", Coverage(confidence), TrainingConditional(delta))


def ltt(confidence: float, delta: float) -> Guarantee:
    """Promise the same as pac, without monotonicity: learn then test."""
    return Guarantee("ltt", Coverage(confidence), TrainingConditional(delta, "fixed_sequence"))


def simultaneous(confidence: float, delta: float, thresholds: tuple[float, ...] = ()) -> Guarantee:
    """Promise the same as pac, for every declared threshold and every confidence at once."""
    return Guarantee("simultaneous", Coverage(confidence), Simultaneous(delta, thresholds))


def expected() -> Guarantee:
    """Promise E d <= threshold over calibration and test image, if exchangeable."""
    return Guarantee("expected", ExpectedLoss())


def conditional_mean(confidence: float, t: float = 0.0) -> Guarantee:
    """Promise P(E[d | x] <= threshold) >= confidence: the paper's condition (3) as it is written."""
    return Guarantee("conditional_mean", ConditionalExpectedLoss(confidence, t))


def rcps(delta: float) -> Guarantee:
    """Promise E[d | calibration set] <= threshold with probability 1 - delta over calibration sets."""
    return Guarantee("rcps", ExpectedLoss(), TrainingConditional(delta))


def rcps_hb(delta: float) -> Guarantee:
    """Promise the same as rcps, by the bound of the original paper, which ignores the order of images."""
    return Guarantee("rcps_hb", ExpectedLoss(), TrainingConditional(delta, "hoeffding_bentkus"))


def groups(confidence: float) -> Guarantee:
    """Promise P(d <= threshold) >= confidence for an image of a new group, if groups are exchangeable."""
    return Guarantee("groups", Coverage(confidence), unit=ImageOfNewGroup())


def categories(confidence: float) -> Guarantee:
    """Promise P(d <= threshold | category) >= confidence in every category, each with its own lambda."""
    return Guarantee("categories", Coverage(confidence), population=EachCategory())


def weighted(confidence: float) -> Guarantee:
    """Promise P(d <= threshold) >= confidence for another population of known likelihood ratio."""
    return Guarantee("weighted", Coverage(confidence), population=Weighted())


def adaptive(confidence: float) -> Guarantee:
    """Promise P(d <= threshold) >= confidence with a lambda that follows how hard an image looks."""
    return Guarantee("adaptive", Coverage(confidence), lam=Adaptive())


GUARANTEES: Mapping[str, Callable[..., Guarantee]] = {
    preset.__name__: preset
    for preset in (
        marginal, pac, expected, conditional_mean, rcps, rcps_hb, ltt, groups, categories, weighted, adaptive,
        simultaneous,
    )
}  # fmt: skip


UNITS: Mapping[str, Unit] = {"image": Image(), "image_of_new_group": ImageOfNewGroup(), "group": Group()}


def takes(name: str) -> frozenset[str]:
    """Return which of confidence and delta a guarantee takes."""
    parameters = inspect.signature(chosen(GUARANTEES, name, "guarantee")).parameters
    return frozenset(DEFAULTS.keys() & parameters.keys())


def guarantee(
    name: str,
    confidence: float | None = None,
    delta: float | None = None,
    unit: str | None = None,
    share: float | None = None,
    within: bool = False,
) -> Guarantee:
    """Return the promise with this name; confidence and delta default to 0.9 and 0.05 where it takes them.

    Args:
        name: a key of GUARANTEES.
        confidence: the promised probability, where it takes one.
        delta: the share of calibration sets for which it may fail, where it takes one.
        unit: image, group or image_of_new_group, instead of the guarantee's own; see `axes`.
        share: the share of a group's images that must meet the threshold, for the unit group; 1 if None.
        within: whether each category gets the promise by itself.
    """
    taken = takes(name)
    arguments: dict[str, Any] = {}
    for key, value in (("confidence", confidence), ("delta", delta)):
        if value is not None and not 0 < value < 1:
            raise InvalidArgumentError(f"{key} = {value:g}: must be between 0 and 1, such as {DEFAULTS[key]}")
        if value is not None and key not in taken:
            raise InvalidArgumentError(
                f"{key} = {value:g}: the {name} guarantee takes no {key}; leave it out"
            )
        if key in taken:
            arguments[key] = DEFAULTS[key] if value is None else value
    promise = GUARANTEES[name](**arguments)
    if unit is not None or share is not None:
        counted = unit_of(unit, share)
        if promise.unit not in (Image(), counted):
            raise InvalidArgumentError(
                f"the {name} guarantee has a unit of its own: leave out the unit, or use marginal with it"
            )
        promise = replace(promise, unit=counted)
    if within and isinstance(promise.population, Weighted):
        raise InvalidArgumentError(
            f"the {name} guarantee is about one other population, not about each category by itself: leave "
            "out per_category (--per-category), or use marginal with it"
        )
    return replace(promise, population=EachCategory()) if within else promise


def unit_of(name: str | None, share: float | None) -> Unit:
    """Return the unit with this name."""
    made = chosen(UNITS, name or "image", "unit")
    if share is None:
        return made
    if not isinstance(made, Group):
        raise InvalidArgumentError(
            f"share = {share:g}: only the unit group takes a share; choose that unit or leave share out"
        )
    if not 0 < share <= 1:
        raise InvalidArgumentError(f"share = {share:g}: must be above 0 and at most 1, such as 0.9")
    return Group(share)


WORDS = {"group_name": "patient", "object_name": "nucleus"}
"""Fields of a promise that are only words of its sentences, with an example of each."""
IRREGULAR = {"nucleus": "nuclei", "bacterium": "bacteria", "glomerulus": "glomeruli", "series": "series"}
"""Plurals that do not follow the rules of `plural_of`."""


def plural_of(noun: str) -> str:
    """Return the plural of an English noun."""
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if re.search("[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    if noun.endswith("sis"):
        return f"{noun[:-2]}es"
    return f"{noun}es" if re.search("(s|x|z|ch|sh)$", noun) else f"{noun}s"


@dataclass(frozen=True)
class Promise:
    """The terms of a promise, checked when they are made.

    Args:
        guarantee: a name of `conformask.records.names.Guarantee`: see docs/promises.md.
        confidence: the promised probability (the paper's beta); 0.9 if None, where the guarantee takes one.
        delta: the share of calibration sets for which the promise may fail; 0.05 if None, where it takes one.
        unit: the unit counted: image, group or image_of_new_group; the guarantee's own if None.
        share: the share of a group's images that must meet the threshold, for unit="group"; all if None.
        per_category: whether each category gets its own promise and its own lambda.
        group_name: the word for a group in sentences, in the singular, such as "patient", "slide" or "field".
        weight: for weighted, a likelihood ratio (x, y_hat) -> (N,) of the new population to that of the
            calibration, instead of the triplets' weights; a run folder does not keep it.
        object_name: the word for an object in sentences, in the singular, such as "nucleus".

    Raises:
        InvalidArgumentError: an unknown name, a value outside its range, or one that is not taken; a
            combination without a theorem.

    Examples:
        >>> import conformask as cm
        >>> cm.Promise("pac", confidence=0.8)
        Promise(guarantee='pac', confidence=0.8, delta=0.05, unit=None, share=None, per_category=False)
    """

    guarantee: names.Guarantee = "marginal"
    confidence: float | None = None
    delta: float | None = None
    unit: names.Unit | None = None
    share: float | None = None
    per_category: bool = False
    group_name: str = field(default="group", repr=False, compare=False)
    weight: Callable[[Any, Any], Any] | None = field(default=None, repr=False)
    object_name: str = field(default="object", repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, example in WORDS.items():
            if not re.fullmatch(r"[^\W\d_]+", getattr(self, name)):
                raise InvalidArgumentError(
                    f"{name} = {getattr(self, name)!r}: give one word in the singular, such as {example}"
                )
        resolved = self.resolve()
        object.__setattr__(self, "confidence", resolved.confidence)
        object.__setattr__(self, "delta", resolved.delta)

    def named(self, text: str) -> str:
        """Return a sentence with the words of this promise for groups and objects."""
        words = {"group": self.group_name, "object": self.object_name}
        words |= {f"{word}s": plural_of(name) for word, name in words.items()}
        return re.sub(r"\b(group|object)s?\b", lambda found: words[found[0]], text)

    def resolve(self) -> Guarantee:
        """Return the promise by its axes, with the procedure that gives it."""
        return guarantee(
            self.guarantee, self.confidence, self.delta, self.unit, self.share, within=self.per_category
        )

    def changed(
        self,
        guarantee: names.Guarantee | None = None,
        confidence: float | None = None,
        delta: float | None = None,
        unit: names.Unit | None = None,
        share: float | None = None,
        per_category: bool | None = None,
        group_name: str | None = None,
        object_name: str | None = None,
    ) -> "Promise":
        """Return the promise with other terms; None keeps one, unless the new guarantee does not take it."""
        changes: dict[str, Any] = {
            "guarantee": guarantee, "confidence": confidence, "delta": delta, "unit": unit, "share": share,
            "per_category": per_category, "group_name": group_name, "object_name": object_name,
        }  # fmt: skip
        changes = {name: value for name, value in changes.items() if value is not None}
        dropped = DEFAULTS.keys() - takes(guarantee or self.guarantee)
        if unit not in (None, "group"):
            dropped |= {"share"}
        stated = replace(self, **{**dict.fromkeys(dropped), **changes})
        return stated if group_name is None else promise(stated)


AnyPromise = Promise | names.Guarantee
"""A promise, or the name of a guarantee with its default numbers."""


def promise(choice: AnyPromise) -> Promise:
    """Return the promise, or that of a guarantee's name with its default numbers."""
    stated = choice if isinstance(choice, Promise) else Promise(choice)
    if stated.group_name != "group" and isinstance(stated.resolve().unit, Image):
        raise InvalidArgumentError(
            f"group_name {stated.group_name!r} is the word for a group, but the promise is about images: "
            "promise groups, unit='group' (--unit group), or leave it out"
        )
    return stated
