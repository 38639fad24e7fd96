"""Intervals around a number of an output, which contain that of the truth for a promised share of images.

The residual of an image is r = (f(y) - f(y_hat)) / u: f is the number, and u, fixed before a calibration
image is looked at, is 1 or |f(y_hat)|, or either times a power of what the score says. An order statistic q
of the residuals of n calibration images bounds that of a new one (Papadopoulos et al. 2002); two of them,
each with half of the miscoverage, make the interval from f(y_hat) + u q_low to f(y_hat) + u q_high. A theorem
about critical lambdas that looks at their order alone holds for residuals: the largest is the least lambda.
Residuals are rounded up until the ends that they give hold f(y): rounding leaves no truth out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from conformask.arrays import Array, Batch, best_device
from conformask.background import tracked
from conformask.errors import ImageError, InvalidArgumentError, MismatchError
from conformask.images.rows import Role
from conformask.images.triplets import Triplets, truth_ids
from conformask.masker.admission import Admission, admitted, by_tiles
from conformask.promises.axes import EachCategory
from conformask.promises.order import CalibrationData, Curves, ImageCovariates
from conformask.promises.promise import Promise
from conformask.promises.rules import CategoryLambda, ConstantLambda
from conformask.records.card import Domain, as_sentence, beginning_of, kept_text, whom_of, worst_text
from conformask.records.evaluation import CategoryCoverage
from conformask.records.numbers import Values, plural, rounded_up, written
from conformask.records.reading import Geometry, Size
from conformask.scores.scorer import Scorer, Step, Tiled, score_of_batch

Function = Callable[[Array, Array | None], float]
"""A number of an image (C, *space), in the values of the files, and its labels (*space), None without."""


@dataclass(frozen=True)
class Part:
    """The part of an image that a number is about: where labels are, else the region, else all of it."""

    image: Array
    """Values (C, *space), those of the files."""
    labels: Array | None
    """Labels (*space), 0 outside of the part; None where all of the image is the part."""
    geometry: Geometry | None
    """The spacing of the pixels, where the file states it."""

    @property
    def pixels(self) -> int:
        """The number of pixels of the part."""
        return self.image[0].size if self.labels is None else int(np.count_nonzero(self.labels))

    @property
    def values(self) -> Array:
        """The values of the part, (C, pixels)."""
        return (
            self.image.reshape(len(self.image), -1) if self.labels is None else self.image[:, self.labels > 0]
        )


def _extent(part: Part) -> float:
    return part.pixels * (1.0 if part.geometry is None else float(np.prod(part.geometry.spacing)))


def _count(part: Part) -> float:
    return float(len(np.unique(part.labels[part.labels > 0]))) if part.labels is not None else 0.0


def _mean(part: Part) -> float:
    return float(part.values.mean(dtype=np.float64)) if part.pixels else 0.0


def _sum(part: Part) -> float:
    return float(part.values.mean(axis=0).sum(dtype=np.float64))


@dataclass(frozen=True)
class Quantity:
    """A number that is computed from an output and, in the same way, from the truth."""

    name: str
    """Its name in sentences, such as volume."""
    compute: Callable[[Part], float]
    about: Literal["labels", "values"]
    """What it is computed from: of labels, those of y_hat and of y are needed."""
    dimensions: int | None = None
    """The number of spatial axes that it is about; None for any."""

    def unit(self, geometry: Geometry | None, values: Values | None) -> str:
        """Return its unit: of length, area or volume, of the values, or "" for a count."""
        if self.compute is _extent:
            power = "" if geometry is None else "\u00b2\u00b3"[len(geometry.spacing) - 2]
            return "pixels" if geometry is None else f"{geometry.unit}{power}"
        return "" if self.about == "labels" or values is None else values.units or ""

    def of(self, part: Part, name: str) -> float:
        """Return the number; `name` says in errors whose it is."""
        number = float(self.compute(part))
        if not np.isfinite(number):
            raise ImageError(f"the {self.name} of {name} is {number}: it must be a finite number")
        return number


QUANTITIES: Mapping[str, Quantity] = {
    "volume": Quantity("volume", _extent, "labels", 3),
    "area": Quantity("area", _extent, "labels", 2),
    "count": Quantity("count", _count, "labels"),
    "mean": Quantity("mean", _mean, "values"),
    "sum": Quantity("sum", _sum, "values"),
}


def quantity(of: str | Function) -> Quantity:
    """Return the quantity with this name, or that of a function; see `Function`."""
    if isinstance(of, str):
        if of not in QUANTITIES:
            raise InvalidArgumentError(
                f"no number is called {of!r}: give {', '.join(QUANTITIES)}, or a function in Python"
            )
        return QUANTITIES[of]
    name = getattr(of, "__name__", "number")
    return Quantity(name.strip("<>"), lambda part: of(part.image, part.labels), "values")


def part_of(batch: Batch, index: int, role: Role, values: Values | None, label: int | None) -> Part:
    """Return what a number of y_hat or y of an image is computed from.

    Values of y are taken where the labels of y are, or if these are not known, where those of y_hat are.
    """
    images = batch.y_hat if role == "y_hat" else batch.y
    assert images is not None
    low, span = (0.0, 1.0) if values is None else (values.low, values.span)
    image = low + span * images[index].cpu().numpy().astype(np.float64)
    geometry = None if batch.geometry is None else batch.geometry[index]
    names = ("y_labels", "labels", "region") if role == "y" else ("labels", "region")
    place = next((batch.layers[name] for name in names if name in batch.layers), None)
    if place is None:
        return Part(image, None, geometry)
    labels = place[index, 0].cpu().numpy()
    return Part(image, labels if label is None else np.where(labels == label, labels, 0), geometry)


Numbers = Float[np.ndarray, "n"]
TINY = 1e-12
"""Added to the mean score of an image."""


@dataclass(frozen=True)
class Measured:
    """Numbers of images, and what the score says of each."""

    outputs: Numbers
    truths: Numbers | None
    scores: Numbers
    """Mean score where the number is computed, above 0; 1 where it is not needed."""
    ids: tuple[str, ...]
    """Hashes of the truths, by which images are recognised; "" where they are not known."""


def facts_of(images: Triplets) -> Curves:
    """Return the groups and categories of images, as the theorems take them."""
    known = None not in images.categories
    category = np.array(images.categories, dtype=np.str_) if known else None
    empty = np.zeros((len(images), 2))
    return Curves(
        np.array(images.names), np.array([0.0, math.inf]), empty, empty,
        group=np.array(images.groups), category=category,
    )  # fmt: skip


def measured_of(
    scorer: Scorer, triplets: Triplets, of: Quantity, label: int | None, unit: str, *, scored: bool
) -> Measured:
    """Compute the number of y_hat and y of each image, and if `scored` its mean score where they are."""
    check_measurable(triplets, of)
    values = triplets.values
    numbers: dict[Role, list[float]] = {"y_hat": []}
    if triplets.has_truth and (of.about == "values" or triplets.has("y_labels")):
        numbers["y"] = []
    scores: list[float] = []
    ids: list[str] = []
    for batch in tracked(triplets.batches(), of.name, len(triplets), len):
        maps = np.ones((len(batch), *batch.y_hat.shape[2:]))
        if scored:
            score = score_of_batch(scorer, batch.to(best_device()))
            maps = score.map.mean(dim=1).cpu().numpy()
        ids += truth_ids(batch).tolist()
        for index, name in enumerate(batch.names):
            parts = {role: part_of(batch, index, role, values, label) for role in numbers}
            if (own := of.unit(parts["y_hat"].geometry, values)) != unit:
                raise MismatchError(
                    f"{name!r} has a spacing in {own or 'no unit'}, but the {of.name} is in {unit}"
                )
            for role, part in parts.items():
                numbers[role].append(of.of(part, f"{role} of {name!r}"))
            labels = parts["y_hat"].labels
            inside = maps[index] if labels is None or not labels.any() else maps[index][labels > 0]
            scores.append(float(inside.mean(dtype=np.float64)) + TINY)
    truths = np.array(numbers["y"]) if "y" in numbers else None
    return Measured(np.array(numbers["y_hat"]), truths, np.array(scores), tuple(ids))


def check_measurable(triplets: Triplets, of: Quantity, *, with_truth: bool = False) -> None:
    """Raise where the images lack what the number of y_hat, and perhaps that of y, is computed from."""
    if of.dimensions not in (None, triplets.dimensions):
        other = "area" if of.name == "volume" else "volume"
        raise InvalidArgumentError(
            f"the images have {triplets.dimensions} axes: measure their {other}, not {of.name}"
        )
    needed = ["labels", *["y_labels"] * with_truth] if of.about == "labels" else []
    for name in needed:
        if not triplets.has(name):
            raise InvalidArgumentError(
                f"the {of.name} is that of labels of y_hat and of y, and some images have no {name}: name "
                "their folder with --objects (objects= of a Reading), or give labels= and y_labels= to "
                "from_arrays"
            )


def widths_of(measured: Measured, *, relative: bool, exponent: float) -> Numbers:
    """Return u of each image."""
    return (np.abs(measured.outputs) if relative else 1.0) * measured.scores**exponent


def offsets(widths: Numbers, limits: Numbers) -> Numbers:
    """Return u q; infinite where q is, also for an image with u = 0."""
    return np.where(np.isfinite(limits), widths * np.where(np.isfinite(limits), limits, 0.0), limits)


@dataclass(frozen=True)
class Side:
    """One end of the intervals: an order statistic of the calibration residuals."""

    rule: ConstantLambda | CategoryLambda
    """The rule from an image to a place among the residuals, 1 for the largest; 0 where there is none."""
    residuals: tuple[float, ...]
    """The different calibration residuals, the largest first."""

    @classmethod
    def of(cls, promise: Promise, residuals: Numbers, columns: Curves) -> "Side":
        """Return the end that a promise gives; the columns are those of the images."""
        ascending, places = np.unique(-residuals, return_inverse=True)
        rule = promise.rule(CalibrationData(0.0, 1.0 + places, columns))
        assert isinstance(rule, ConstantLambda | CategoryLambda)
        return cls(rule, tuple(map(float, -ascending)))

    def limits(self, facts: ImageCovariates) -> Numbers:
        """Return the largest residual that each image may have; inf where nothing is promised."""
        places = self.rule(facts).clip(max=len(self.residuals))
        limits: Numbers = np.array([math.inf, *self.residuals])[places.astype(int)]
        return limits


@dataclass(frozen=True)
class Interval:
    """The number of an output, and the interval that is promised to contain that of the truth."""

    name: str
    value: float
    low: float
    high: float
    truth: float | None = None
    within: bool | None = None
    """Whether the number of the truth lies in the interval; None where the truth is not known."""
    used: bool = False
    """True for an image that an earlier step has seen, so that it shows nothing about new ones."""

    def rounded(self, digits: int) -> tuple[float, float]:
        """Return both ends, rounded outwards to a number of significant digits."""
        return -rounded_up(-self.low, digits), rounded_up(self.high, digits)


@dataclass(frozen=True)
class Number:
    """A number with a promise: intervals for new images."""

    scorer: Scorer
    """The score, by which intervals may be wider, without the steps of masks."""
    domain: Domain
    """The images that the promise is about: those like its calibration images."""
    quantity: Quantity
    label: int | None
    """The label that the number is about; None for all of them."""
    promise: Promise
    relative: bool
    symmetric: bool
    exponent: float
    """The exponent of the mean score in the width of an interval."""
    unit: str
    sides: tuple[Side, Side]
    """The upper and the lower end, the latter with residuals of the opposite sign."""
    n: int
    """The number of calibration images."""
    n_groups: int | None
    """Number of their groups, where the promise counts groups."""
    seen: frozenset[str]
    """Hashes of the calibration and selection images, and of their groups."""
    exploratory: bool = False
    """True if another calibration of the number on these images came before."""

    @property
    def is_constant(self) -> bool:
        """True if the intervals of all images have the same ends, relative to the number."""
        return self.exponent == 0 and all(isinstance(side.rule, ConstantLambda) for side in self.sides)

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest residual, rounded outwards to three digits; of those of all images."""
        high, low = (float(side.limits(ImageCovariates(1))[0]) for side in self.sides)
        return 0.0 - rounded_up(low), rounded_up(high)  # not -0

    @property
    def sentence(self) -> str:
        """The promise in one English sentence."""
        named = f"the true {self.quantity.name}"
        event = f"{named} lies in the interval that is given for it"
        if self.is_constant and not any(self.ends):
            event = f"{named} equals that of the output"
        elif self.is_constant:
            event = f"{named} lies between {' and '.join(map(self._offset, self.ends))} that of the output"
        return as_sentence(f"{beginning_of(self.promise)}, {event}", exploratory=self.exploratory)

    def _offset(self, end: float) -> str:
        size = f"{written(abs(100 * end))} %" if self.relative else f"{written(abs(end))} {self.unit}".strip()
        return f"{size} {'below' if end < 0 else 'above'}"

    @property
    def formula(self) -> str:
        """The promise as a formula."""
        f, parts = self.quantity.name, []
        parts += [f"|{f}(y_hat)|"] * self.relative
        if self.exponent:
            parts.append("(mean score)" + (f"^{self.exponent:g}" if self.exponent != 1 else ""))
        residual = f"{f}(y) - {f}(y_hat)"
        width = " ".join(parts)
        residual = f"({residual}) / {f'({width})' if len(parts) > 1 else width}" if parts else residual
        if isinstance(self.sides[0].rule, ConstantLambda):
            claim = f"{self.ends[0]:.4g} <= {residual} <= {self.ends[1]:.4g}"
        else:
            claim = f"low of the category <= {residual} <= high of the category"
        promised, whom = self.promise.claim_of(claim), whom_of(self.promise, self.n, self.n_groups)
        guarantee = f"{self.promise.guarantee}{', exploratory' * self.exploratory}"
        return f"{self.promise.named(promised)} for {whom} ({guarantee})"

    def admit(self, triplets: Triplets) -> Admission:
        """Check, before a number is computed, that new images are those that the promise is about."""
        return admitted(self.domain, self.promise, by_tiles(self.scorer, self.domain), triplets)

    def intervals(self, triplets: Triplets) -> list[Interval]:
        """Return the interval of each image, and whether it holds the true number where that is known.

        Warns:
            ConformaskWarning: the images are not those that the promise is about.

        Raises:
            MismatchError: outputs of another network; other channels; no labels, or another unit.
        """
        self.admit(triplets).warn()
        scored = self.exponent > 0
        measured = measured_of(self.scorer, triplets, self.quantity, self.label, self.unit, scored=scored)
        facts = facts_of(triplets).covariates
        high, low = (side.limits(facts) for side in self.sides)
        widths = widths_of(measured, relative=self.relative, exponent=self.exponent)
        lows, highs = measured.outputs - offsets(widths, low), measured.outputs + offsets(widths, high)
        columns = zip(
            triplets.names, *(map(float, each) for each in (measured.outputs, lows, highs)), strict=True
        )
        found = [Interval(*each) for each in columns]
        if measured.truths is None:
            return found
        used = triplets.used(self.scorer.trained_on | self.seen, measured.ids)
        pairs = zip(measured.truths.tolist(), used.tolist(), strict=True)
        return [
            replace(each, truth=y, within=each.low <= y <= each.high, used=is_used)
            for each, (y, is_used) in zip(found, pairs, strict=True)
        ]


def alone(scorer: Scorer, tiles: tuple[int | Size, int | Size] | None) -> Scorer:
    """Return a score without the steps of masks, by tiles where it is computed by tiles."""
    while isinstance(scorer, Step):
        scorer = scorer.scorer
    return scorer if tiles is None else Tiled(scorer, *tiles)


def kept(number: Number, intervals: Sequence[Interval], images: Triplets) -> str | None:
    """Return how many of the units that the promise counts kept it, of unused ones with truth, if any.

    `intervals` are those of the images. Of a promise for each category, the worst one is named too.
    """
    groups, unit = np.array(images.groups), number.promise.axes.unit
    used = np.array([each.used for each in intervals], dtype=bool)
    new = ~np.isin(groups, groups[used])
    if not images.has_truth or not new.any():
        return None
    within = np.array([each.within for each in intervals], dtype=bool)

    def coverage(own: Bool[np.ndarray, "n"]) -> tuple[int, float, tuple[float, float]]:
        n = len(np.unique(groups[own])) if unit.is_group else int(own.sum())
        return n, *unit.coverage(within[own], groups[own])

    n, share, interval = coverage(new)
    text = kept_text(number.promise, plural(n, unit.singular), n, share, interval)
    if isinstance(number.promise.axes.population, EachCategory):
        categories = np.array(images.categories)
        each = [
            CategoryCoverage(name, *coverage(new & (categories == name)), mean_loss=math.nan)
            for name in np.unique(categories[new]).tolist()
        ]
        text += worst_text(min(each, key=lambda measured: measured.coverage))
    return f"Measured: {text}."
