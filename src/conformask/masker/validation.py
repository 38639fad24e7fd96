"""Comparison of losses measured on images with truth with a masker's promise."""

from dataclasses import dataclass, replace

import numpy as np

from conformask.conformal.coverage_test import (
    PerImage,
    PValues,
    coverage_p_values,
    largest_failing_share,
    resampled_failing_share,
    resampled_p_values,
)
from conformask.conformal.crossing import SLACK, meets_threshold
from conformask.conformal.curves import Curves
from conformask.conformal.guarantee import Guarantee
from conformask.conformal.populations import EachCategory, SamePopulation, Weighted
from conformask.conformal.units import Labels
from conformask.masker.masker import Masker
from conformask.records.evaluation import Measurement

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

    def expected(self, promise: Guarantee) -> tuple[float, float] | None:
        """Return the range that is not unlikely: of the coverage, or of the mean loss that is promised."""
        found = None if self.tails is None else self.tails.expected
        return found if found is None or promise.statement.bounds_a_mean else (1 - found[1], 1 - found[0])

    def broken(self, level: float) -> bool:
        """Return whether the loss exceeds the promise, and by more than chance explains at this level."""
        more = self.loss > self.allowed * (1 + SLACK)
        return more and self.tails is not None and self.tails.worse < level


def measurement_of(
    masker: Masker,
    losses: PerImage,
    groups: Labels,
    categories: Labels | None = None,
    level: float = LEVEL,
) -> Measurement:
    """Summarise the losses of images with truth and compare them with the promise; see `agreement`."""
    promise = masker.guarantee
    met = meets_threshold(losses, masker.card.threshold)
    coverage, interval = promise.unit.coverage(met, groups)
    held = compare_with_promise(masker, losses, groups, categories)
    return Measurement(
        n=len(np.unique(groups)) if promise.unit.is_group else len(losses),
        coverage=coverage,
        coverage_interval=interval,
        mean_loss=float(losses.mean()),
        p_worse=None if held.tails is None else held.tails.worse,
        p_better=None if held.tails is None else held.tails.better,
        broken=held.broken(level),
        expected=held.expected(promise),
    )


def compare_with_promise(
    masker: Masker, losses: PerImage, groups: Labels, categories: Labels | None = None
) -> PromiseTest:
    """Compare the losses of images with the promise.

    The law counts one image per group, unless the promise is about groups. With categories, the result is
    that of the worst one, corrected for their number. No law is known for weighted promises, nor where one
    has to be drawn from curves and none are stored.
    """
    promise, threshold = masker.guarantee, masker.card.threshold
    bounded, allowed = promise.statement.bounded(losses, threshold), promise.statement.allowed(threshold)
    if isinstance(promise.population, EachCategory):
        return _worst_category(masker, bounded, allowed, groups, np.asarray(categories))
    of_units = promise.unit.losses(bounded, groups)
    loss = float(of_units.mean() if promise.by_group else bounded.mean())
    return PromiseTest(loss, allowed, _tails(masker, of_units))


def most_failing(masker: Masker, level: float) -> float:
    """Return the largest plausible share of failing units if the promise is true.

    A share `level` of calibration sets may exceed it. It is at least the promised share: a promise that holds
    on average over calibration sets is exceeded a little by many of them.
    """
    promise, threshold = masker.guarantee, masker.card.threshold
    if isinstance(promise.population, EachCategory) and masker.curves is not None:
        law, names = (
            replace(promise, population=SamePopulation()),
            np.unique(np.asarray(masker.curves.category)),
        )
        ranks = [_rank_in(masker.curves, str(name), law) for name in names]
    else:
        ranks = [(promise.rank(masker.card.n_units), masker.card.n_units)]
    shares = [promise.statement.allowed(threshold)]
    shares += [largest_failing_share(n, rank, level / len(ranks)) for rank, n in ranks if rank is not None]
    if len(shares) == 1 and masker.curves is not None:
        calibration = masker.evidence()
        fixed = promise.fit_on_selection(calibration, masker.card.n_units)
        shares.append(resampled_failing_share(fixed, calibration, level))
    return max(shares)


def _tails(masker: Masker, of_units: PerImage) -> PValues | None:
    promise, n = masker.guarantee, masker.card.n_units
    rank = promise.rank(n)
    if rank is not None:
        return coverage_p_values(n, rank, of_units == 0)
    if masker.curves is None or isinstance(promise.population, Weighted):
        return None
    calibration = masker.evidence()
    return resampled_p_values(promise.fit_on_selection(calibration, n), calibration, of_units)


def _worst_category(
    masker: Masker, losses: PerImage, allowed: float, groups: Labels, categories: Labels
) -> PromiseTest:
    """Return the agreement of the category with the smallest p-value, corrected for their number."""
    if masker.curves is None:
        return PromiseTest(float(losses.mean()), allowed, None)
    law, curves, agreements = replace(masker.guarantee, population=SamePopulation()), masker.curves, []
    for category in np.unique(categories):
        own = categories == category
        of_units = law.unit.losses(losses[own], groups[own])
        loss = float(of_units.mean() if law.by_group else losses[own].mean())
        rank, n = _rank_in(curves, str(category), law)
        tails = None if rank is None else coverage_p_values(n, rank, of_units == 0)
        agreements.append(PromiseTest(loss, allowed, tails))
    worst = min(agreements, key=lambda each: each.tails.worse if each.tails else 1 - each.loss)
    return replace(worst, tails=worst.tails and worst.tails.correct(len(agreements)))


def _rank_in(curves: Curves, category: str, law: Guarantee) -> tuple[int | None, int]:
    """Return the rank deployed in a category, if one is, and its number of units."""
    calibrated = np.asarray(curves.category) == category
    group = None if curves.group is None else curves.group[calibrated]
    n = law.unit.count(int(calibrated.sum()), {"group": group})
    return law.rank(n), n
