"""A promise, the theorem behind it, and the guarantees that have names."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from conformask.background import tracked
from conformask.errors import InvalidArgumentError, chosen
from conformask.promises.axes import (
    Adaptive,
    Columns,
    ConditionalExpectedLoss,
    Coverage,
    EachCategory,
    ExpectedLoss,
    Group,
    Image,
    ImageOfNewGroup,
    Simultaneous,
    TrainingConditional,
    Unit,
    Weighted,
)
from conformask.promises.order import CalibrationData, coverage_range
from conformask.promises.procedures import Axes, Procedure, procedure_for
from conformask.promises.rules import Rule
from conformask.records import names

SIZES = (1, 2, 5, 10, 20, 50)
"""Ranks whose smallest sets a plan lists, or without ranks multiples of the smallest set."""
DEFAULTS = {"confidence": 0.9, "delta": 0.05}
"""Default values, for guarantees that take them."""
GUARANTEES: Mapping[str, Callable[..., Axes]] = {
    # P(d <= threshold) >= confidence over calibration and test image, if exchangeable
    "marginal": lambda confidence: Axes(Coverage(confidence)),
    # P(d <= threshold | calibration set) >= confidence with probability 1 - delta over sets
    "pac": lambda confidence, delta: Axes(Coverage(confidence), TrainingConditional(delta)),
    # E d <= threshold over calibration and test image, if exchangeable
    "expected": lambda: Axes(ExpectedLoss()),
    # P(E[d | x] <= threshold) >= confidence: the paper's condition (3) as it is written
    "conditional_mean": lambda confidence, t: Axes(ConditionalExpectedLoss(confidence, t)),
    # E[d | calibration set] <= threshold with probability 1 - delta over calibration sets
    "rcps": lambda delta: Axes(ExpectedLoss(), TrainingConditional(delta)),
    # the same as rcps, by the bound of the original paper, which ignores the order of images
    "rcps_hb": lambda delta: Axes(ExpectedLoss(), TrainingConditional(delta, "hoeffding_bentkus")),
    # the same as pac, without monotonicity: learn then test
    "ltt": lambda confidence, delta: Axes(Coverage(confidence), TrainingConditional(delta, "fixed_sequence")),
    # P(d <= threshold) >= confidence for an image of a new group, if groups are exchangeable
    "groups": lambda confidence: Axes(Coverage(confidence), unit=ImageOfNewGroup()),
    # P(d <= threshold | category) >= confidence in every category, each with its own lambda
    "categories": lambda confidence: Axes(Coverage(confidence), population=EachCategory()),
    # P(d <= threshold) >= confidence for another population of known likelihood ratio
    "weighted": lambda confidence: Axes(Coverage(confidence), population=Weighted()),
    # P(d <= threshold) >= confidence with a lambda that follows how hard an image looks
    "adaptive": lambda confidence: Axes(Coverage(confidence), lam=Adaptive()),
    # the same as pac, for every declared threshold and every confidence at once
    "simultaneous": lambda confidence, delta, thresholds: Axes(
        Coverage(confidence), Simultaneous(delta, thresholds)
    ),
}
"""The axes of each guarantee, from the fields of a promise that it takes."""
UNITS: Mapping[str, Unit] = {"image": Image(), "image_of_new_group": ImageOfNewGroup(), "group": Group()}


def takes(name: str) -> frozenset[str]:
    """Return which of confidence and delta a guarantee takes."""
    return frozenset(DEFAULTS.keys() & _parameters(name))


def _parameters(name: str) -> frozenset[str]:
    return frozenset(inspect.signature(chosen(GUARANTEES, name, "guarantee")).parameters)


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
class Promise(names.PromiseTerms):
    """A promise about losses, checked when it is made, and the theorem behind it.

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
    per_category: bool = False
    group_name: str = field(default="group", repr=False, compare=False)
    object_name: str = field(default="object", repr=False, compare=False)
    weight: Callable[[Any, Any], Any] | None = field(default=None, repr=False)
    t: float = field(default=0.0, repr=False)
    """The start of the tail of conditional_mean, chosen on the selection images."""
    thresholds: tuple[float, ...] = field(default=(), repr=False)
    """The thresholds of simultaneous, declared from the selection images, ascending."""

    def __post_init__(self) -> None:
        for name, example in WORDS.items():
            word = vars(self)[name]
            if not re.fullmatch(r"[^\W\d_]+", word):
                raise InvalidArgumentError(
                    f"{name} = {word!r}: give one word in the singular, such as {example}"
                )
        taken = takes(self.guarantee)
        for name, default in DEFAULTS.items():
            value = vars(self)[name]
            if value is not None and not 0 < value < 1:
                raise InvalidArgumentError(f"{name} = {value:g}: must be between 0 and 1, such as {default}")
            if value is not None and name not in taken:
                raise InvalidArgumentError(
                    f"{name} = {value:g}: the {self.guarantee} guarantee takes no {name}; leave it out"
                )
            if value is None and name in taken:
                object.__setattr__(self, name, default)
        procedure_for(self.axes)

    @property
    def axes(self) -> Axes:
        """The promise by its axes."""
        axes = GUARANTEES[self.guarantee](**{name: vars(self)[name] for name in _parameters(self.guarantee)})
        if self.unit is not None or self.share is not None:
            counted = unit_of(self.unit, self.share)
            if axes.unit not in (Image(), counted):
                raise InvalidArgumentError(
                    f"the {self.guarantee} guarantee has a unit of its own: leave out the unit, or use "
                    "marginal with it"
                )
            axes = axes._replace(unit=counted)
        if self.per_category and isinstance(axes.population, Weighted):
            raise InvalidArgumentError(
                f"the {self.guarantee} guarantee is about one other population, not about each category by "
                "itself: leave out per_category (--per-category), or use marginal with it"
            )
        return axes._replace(population=EachCategory()) if self.per_category else axes

    @property
    def procedure(self) -> Procedure:
        """The theorem by which the promise can be given."""
        return procedure_for(self.axes)

    @property
    def columns(self) -> frozenset[str]:
        """The columns needed for each image: group, category, weight."""
        return self.axes.unit.reads | self.axes.population.reads

    @property
    def by_group(self) -> bool:
        """True if groups are counted, all alike, however many images they have."""
        return "group" in self.axes.unit.reads

    @property
    def is_weighted(self) -> bool:
        """True if the promise is about another population than that of the calibration images."""
        return isinstance(self.axes.population, Weighted)

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
        statement, certainty, _, _, lam = self.axes
        return statement.needs_selection or certainty.needs_selection or lam.needs_selection

    @property
    def plural(self) -> str:
        """The name of the units counted: images, groups or what these are called, ..."""
        return self.named(self.axes.population.plural(self.axes.unit))

    def counted(self, n: int, columns: Columns) -> tuple[int, str]:
        """Return the number of units in n images with these groups, categories and weights, and a name."""
        count, units = self.axes.population.count(self.axes.unit, n, columns)
        return count, self.named(units)

    def ungrouped_text(self, groups: Sequence[str], kind: str = "") -> str | None:
        """Return what to say where the promise counts groups and every image is one by itself; else None.

        `kind` is a word for the images, with a blank after it.
        """
        if not self.by_group or len(groups) < 2 or len(set(groups)) < len(groups):
            return None
        return (
            f"the promise counts {self.named('groups')}, but each of the {len(groups)} {kind}images is one "
            "by itself: state groups with --group-from (group_from=), folders or a column of the manifest, "
            f"unless each {self.group_name} has one image"
        )

    def claim(self, loss: str, threshold: float) -> str:
        """Return the promise as a formula."""
        statement, _, unit, population, _ = self.axes
        if isinstance(statement, Coverage):
            return self.claim_of(f"{loss} <= {threshold:.4g}")
        return self._of_sets(statement.claim(unit.statistic_of(loss), threshold, population.given))

    def claim_of(self, event: str) -> str:
        """Return a promise about a share as a formula, for an event such as l1 <= 0.02."""
        statement, _, unit, population, _ = self.axes
        assert isinstance(statement, Coverage)
        return self._of_sets(statement.claim(event + unit.given + population.given))

    def _of_sets(self, claim: str) -> str:
        """Return a claim about new units with the calibration sets for which it holds."""
        claim = self.axes.certainty.claim(claim)
        return claim if self.delta is None else self.axes.population.by_itself + claim

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Return the smallest number of units that can suffice; see `Procedure`."""
        return self.procedure.smallest_calibration_set(threshold, upper_bound)

    def rank(self, n: int) -> int | None:
        """Return which of n ascending critical lambdas is deployed; None where it is not one of them."""
        return self.procedure.rank(n)

    def fit_on_selection(self, selection: CalibrationData, n: int) -> "Promise":
        """Return the promise with every choice made that must not see the n calibration images."""
        statement, certainty = self.axes.statement, self.axes.certainty
        if isinstance(statement, ConditionalExpectedLoss):
            return replace(self, t=statement.fit_on_selection(selection, n).t)
        if isinstance(certainty, Simultaneous):
            return replace(self, thresholds=certainty.fit_on_selection(selection).thresholds)
        return self

    def rule(self, evidence: CalibrationData) -> Rule:
        """Return the rule from facts about images to their lambdas; void if the promise cannot be given."""
        return self.procedure.rule(evidence)

    @property
    def in_one_category(self) -> "Promise":
        """The promise for one of the categories that it is about each by itself."""
        return replace(self, per_category=False) if self.per_category else replace(self, guarantee="marginal")

    def named(self, text: str) -> str:
        """Return a sentence with the words of this promise for groups and objects."""
        words = {"group": self.group_name, "object": self.object_name}
        words |= {f"{word}s": plural_of(name) for word, name in words.items()}
        return re.sub(r"\b(group|object)s?\b", lambda found: words[found[0]], text)

    def changed(self, **terms: Any) -> "Promise":
        """Return the promise with other terms; None keeps one, unless the new guarantee does not take it."""
        changes = {name: value for name, value in terms.items() if value is not None}
        dropped = DEFAULTS.keys() - takes(terms.get("guarantee") or self.guarantee)
        if terms.get("unit") not in (None, "group"):
            dropped |= {"share"}
        stated = replace(self, **{**dict.fromkeys(dropped), **changes})
        return promise(stated) if terms.get("group_name") else stated


AnyPromise = names.PromiseTerms | names.Guarantee
"""A promise, its terms, or the name of a guarantee with its default numbers."""


def promise(choice: AnyPromise) -> Promise:
    """Return the promise, or that of terms or of a guarantee's name, with its default numbers."""
    if isinstance(choice, str):
        choice = names.PromiseTerms(guarantee=choice)
    stated = choice if isinstance(choice, Promise) else Promise().changed(**vars(choice))
    if stated.group_name != "group" and isinstance(stated.axes.unit, Image):
        raise InvalidArgumentError(
            f"group_name {stated.group_name!r} is the word for a group, but the promise is about images: "
            "promise groups, unit='group' (--unit group), or leave it out"
        )
    return stated


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
    promise: Promise, threshold: float | None = None, upper_bound: float | None = None, n: int | None = None
) -> CalibrationPlan:
    """Return the smallest calibration set, and coverage for it and larger ones (or for n)."""
    smallest_size = promise.smallest_calibration_set(threshold, upper_bound)
    if n is not None:
        sizes = [n]
    else:  # between the smallest sizes with these ranks more is hidden, until the rank rises
        ranks = tracked(SIZES, "planning", len(SIZES))
        sizes = [promise.procedure.smallest_of_rank(rank) or smallest_size * rank for rank in ranks]
    prospects = tuple(
        Prospect(size, None if size < smallest_size else coverage_range(size, promise.rank(size)))
        for size in sizes
    )
    return CalibrationPlan(smallest_size, promise.plural, prospects)
