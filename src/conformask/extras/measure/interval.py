"""Intervals around a number of an output, which contain that of the truth for a promised share of images.

The residual of an image is r = (f(y) - f(y_hat)) / u: f is the number, and u, fixed before a calibration
image is looked at, is 1 or |f(y_hat)|, or either times a power of what the score says. An order statistic q
of the residuals of n calibration images bounds that of a new one (Papadopoulos et al. 2002); two of them,
each with half of the miscoverage, make the interval from f(y_hat) + u q_low to f(y_hat) + u q_high. A theorem
about critical lambdas that looks at their order alone holds for residuals: the largest is the least lambda.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from conformask.extras.measure.quantities import Numbers, Quantity, facts_of, measured_of, widths_of
from conformask.images.triplets import Triplets
from conformask.masker.admission import Admission, admitted, by_tiles
from conformask.promises.axes import EachCategory
from conformask.promises.order import CalibrationData, Curves, ImageCovariates
from conformask.promises.promise import Promise
from conformask.promises.rules import CategoryLambda, ConstantLambda
from conformask.records.card import Domain, as_sentence, beginning_of, kept_text, worst_text
from conformask.records.evaluation import CategoryCoverage
from conformask.records.numbers import plural, rounded_up, written
from conformask.records.reading import Size
from conformask.scores.scorer import Scorer, Step, Tiled


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
        return -rounded_up(low), rounded_up(high)

    @property
    def sentence(self) -> str:
        """The promise in one English sentence."""
        named = f"the true {self.quantity.name}"
        event = f"{named} lies in the interval that is given for it"
        if self.is_constant:
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
        rate = f"P({claim}) >= {self.promise.confidence:g}"
        whom = f"new images like the {self.n} calibration images ({self.promise.guarantee})"
        return self.promise.named(f"{self.promise.axes.certainty.claim(rate)} for {whom}")

    def admit(self, triplets: Triplets, *, allow_network_mismatch: bool = False) -> Admission:
        """Check, before a number is computed, that new images are those that the promise is about."""
        tiled, other = by_tiles(self.scorer, self.domain), allow_network_mismatch
        return admitted(self.domain, self.promise, tiled, triplets, allow_network_mismatch=other)

    def intervals(self, triplets: Triplets, *, allow_network_mismatch: bool = False) -> list[Interval]:
        """Return the interval of each image, and whether it holds the true number where that is known.

        Warns:
            ConformaskWarning: the images are not those that the promise is about.

        Raises:
            MismatchError: outputs of another network; other channels; no labels, or another unit.
        """
        self.admit(triplets, allow_network_mismatch=allow_network_mismatch).warn()
        scored = self.exponent > 0
        measured = measured_of(self.scorer, triplets, self.quantity, self.label, self.unit, scored=scored)
        facts = facts_of(triplets).covariates
        high, low = (side.limits(facts) for side in self.sides)
        widths = widths_of(measured, relative=self.relative, exponent=self.exponent)
        lows, highs = measured.outputs - _times(widths, low), measured.outputs + _times(widths, high)
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


def _times(widths: Numbers, limits: Numbers) -> Numbers:
    """Return u q; infinite where q is, also for an image with u = 0."""
    return np.where(np.isfinite(limits), widths * np.where(np.isfinite(limits), limits, 0.0), limits)


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
