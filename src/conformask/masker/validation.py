"""Whether new images, with or without truth, agree with what was promised and calibrated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy
from jaxtyping import Bool

from conformask.images.triplets import Triplets
from conformask.masker.masker import Masker
from conformask.promises.axes import EachCategory, Labels, Places, first_of_each
from conformask.promises.coverage_test import (
    PerImage,
    PValues,
    coverage_p_values,
    largest_failing_share,
    resampled_failing_share,
    resampled_p_values,
)
from conformask.promises.order import SLACK, CalibrationData, Curves
from conformask.promises.promise import Promise
from conformask.records.evaluation import CategoryCoverage, Measurement
from conformask.records.record import Array
from conformask.records.words import shift_text

LEVEL = 0.01
"""False-alarm rate: how often a promise that is kept may be called broken."""


@dataclass(frozen=True)
class PromiseTest:
    """The measured quantity that the promise bounds, and how often chance alone makes it as large."""

    loss: float
    """The share of images that fail, or for a promise about a mean the mean loss."""
    allowed: float
    """The largest loss that the promise allows: 1 - confidence, or the threshold."""
    tails: PValues | None
    """The two p-values of the measured loss; None where no law is known."""
    worst: CategoryCoverage | None = None
    """The category that is judged, where the promise is for each."""

    def expected(self, promise: Promise) -> tuple[float, float] | None:
        """Return the range that is not unlikely: of the coverage, or of the mean loss that is promised."""
        found = None if self.tails is None else self.tails.expected
        return (
            found if found is None or promise.axes.statement.bounds_a_mean else (1 - found[1], 1 - found[0])
        )

    def broken(self, level: float) -> bool:
        """Return whether the loss exceeds the promise, and by more than chance explains at this level."""
        more = self.loss > self.allowed * (1 + SLACK)
        return more and self.tails is not None and self.tails.worse < level


def measurement_of_unused(
    masker: Masker, images: Triplets, losses: PerImage, used: Bool[np.ndarray, "n"], level: float = LEVEL
) -> Measurement | None:
    """Summarise the losses of the images that no step has used, in whole groups; None if there are none."""
    groups, categories = np.array(images.groups), np.array(images.categories)
    new = ~np.isin(groups, groups[used])
    if not new.any():
        return None
    return measurement_of(masker, losses[new], groups[new], categories[new], level)


def measurement_of(
    masker: Masker, losses: PerImage, groups: Labels, categories: Labels | None = None, level: float = LEVEL
) -> Measurement:
    """Summarise the losses of images with truth and compare them with the promise."""
    promise = masker.card.promise
    met = masker.within(losses)
    coverage, interval = promise.axes.unit.coverage(met, groups)
    held = compare_with_promise(masker, losses, groups, categories)
    return Measurement(
        n=len(np.unique(groups)) if promise.axes.unit.is_group else len(losses),
        coverage=coverage,
        coverage_interval=interval,
        mean_loss=float(losses.mean()),
        p_worse=None if held.tails is None else held.tails.worse,
        p_better=None if held.tails is None else held.tails.better,
        broken=held.broken(level),
        expected=held.expected(promise),
        worst=held.worst,
    )


def compare_with_promise(
    masker: Masker, losses: PerImage, groups: Labels, categories: Labels | None = None
) -> PromiseTest:
    """Compare the losses of images with the promise.

    The law counts one image per group, unless the promise is about groups. Of a promise for each category,
    the worst one is judged, corrected for their number. No law is known for weighted promises, nor where one
    has to be drawn from curves and none are stored.
    """
    promise, threshold = masker.card.promise, masker.card.threshold
    allowed = promise.axes.statement.allowed(threshold)
    if isinstance(promise.axes.population, EachCategory):
        return _worst_category(masker, losses, allowed, groups, np.asarray(categories))
    bounded = promise.axes.statement.bounded(losses, threshold)
    of_units = promise.axes.unit.losses(bounded, groups)
    loss = float(of_units.mean() if promise.by_group else bounded.mean())
    calibration = None if masker.curves is None else masker.evidence()
    return PromiseTest(loss, allowed, _tails(promise, masker.card.n_units, calibration, of_units))


def category_coverage(
    masker: Masker, losses: PerImage, groups: Labels, categories: Labels
) -> tuple[CategoryCoverage, ...]:
    """Return the coverage of each category, in the order of their names."""
    unit, met = masker.card.promise.axes.unit, masker.within(losses)
    coverages = []
    for category in np.unique(categories):
        own = categories == category
        n = len(np.unique(groups[own])) if unit.is_group else int(own.sum())
        estimate = unit.coverage(met[own], groups[own])
        coverages.append(CategoryCoverage(str(category), n, *estimate, float(losses[own].mean())))
    return tuple(coverages)


def most_failing(masker: Masker, level: float) -> float:
    """Return the largest plausible share of failing units if the promise is true.

    A share `level` of calibration sets may exceed it. It is at least the promised share: a promise that holds
    on average over calibration sets is exceeded a little by many of them.
    """
    promise, threshold = masker.card.promise, masker.card.threshold
    if isinstance(promise.axes.population, EachCategory) and masker.curves is not None:
        law = promise.in_one_category
        names = np.unique(np.asarray(masker.curves.category)).tolist()
        counts = [_n_units(law, _calibration_of(masker, name)) for name in names]
        ranks = [(law.rank(n), n) for n in counts]
    else:
        ranks = [(promise.rank(masker.card.n_units), masker.card.n_units)]
    shares = [promise.axes.statement.allowed(threshold)]
    shares += [largest_failing_share(n, rank, level / len(ranks)) for rank, n in ranks if rank is not None]
    if len(shares) == 1 and masker.curves is not None:
        calibration = masker.evidence()
        fixed = promise.fit_on_selection(calibration, masker.card.n_units)
        shares.append(resampled_failing_share(fixed, calibration, level))
    return max(shares)


def _tails(
    promise: Promise, n: int, calibration: CalibrationData | None, losses: PerImage, comparisons: int = 1
) -> PValues | None:
    """Return the p-values of the losses of new units under the rule of n units, whose data are these."""
    rank = promise.rank(n)
    if rank is not None:
        return coverage_p_values(n, rank, losses == 0)
    if calibration is None or promise.is_weighted:
        return None
    fixed = promise.fit_on_selection(calibration, n)
    return resampled_p_values(fixed, calibration, losses, comparisons)


def _worst_category(
    masker: Masker, losses: PerImage, allowed: float, groups: Labels, categories: Labels
) -> PromiseTest:
    """Return the agreement of the category with the smallest p-value, corrected for their number."""
    law, agreements = masker.card.promise.in_one_category, []
    coverages = category_coverage(masker, losses, groups, categories)
    for coverage in coverages:
        own = categories == coverage.category
        bounded = law.axes.statement.bounded(losses[own], masker.card.threshold)
        of_units = law.axes.unit.losses(bounded, groups[own])
        loss, tails = float(of_units.mean() if law.by_group else bounded.mean()), None
        if masker.curves is not None:
            data = _calibration_of(masker, coverage.category)
            tails = _tails(law, _n_units(law, data), data, of_units, len(coverages))
        agreements.append(PromiseTest(loss, allowed, tails, coverage))
    worst = min(agreements, key=lambda each: (each.tails.worse if each.tails else 1.0, -each.loss))
    return replace(worst, tails=worst.tails and worst.tails.correct(len(coverages)))


def _calibration_of(masker: Masker, category: str) -> CalibrationData:
    """Return the calibration data of a category, from which its lambda was made."""
    data = masker.evidence()
    return replace(data.take(np.flatnonzero(data.column("category") == category)), own_bound=False)


def _n_units(law: Promise, data: CalibrationData) -> int:
    return law.axes.unit.count(data.n, {"group": data.curves.group})


def shift_of(masker: Masker, features: Mapping[str, Array], new: Triplets) -> str | None:
    """Return a warning if the scores of new images do not look like those of the calibration images.

    `features` are those of the scores of some of the images, by name; one image of each group is compared.
    None is returned where no shift is seen, and where the calibration has nothing to compare with.
    """
    curves = masker.curves
    if not features or masker.card.promise.is_weighted or curves is None or curves.features is None:
        return None
    by_group: dict[str, Array] = {}  # with its first image, as on the other side
    for name, group in zip(new.names, new.groups, strict=True):
        if name in features:
            by_group.setdefault(group, features[name])
    old, of_new = curves.features[one_of_each_group(curves)], np.stack(list(by_group.values()))
    p_value = bonferroni([ks_p_value(*pair) for pair in zip(old.T, of_new.T, strict=True)])
    return shift_text(p_value, LEVEL, shifted=True) if p_value < LEVEL else None


def one_of_each_group(curves: Curves) -> Places:
    """Return the place of one calibration image of each group; of each image where there are no groups."""
    return first_of_each(curves.names if curves.group is None else curves.group)


def ks_p_value(old: Array, new: Array) -> float:
    """Return the p-value of the two-sample Kolmogorov-Smirnov test."""
    return float(scipy.stats.ks_2samp(old, new).pvalue)


def bonferroni(p_values: Sequence[float]) -> float:
    """Return the p-value of all comparisons together (Bonferroni)."""
    return min(1.0, len(p_values) * min(p_values))
