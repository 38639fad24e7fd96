"""Whether what was measured on images with truth agrees with a masker's promise."""

from dataclasses import dataclass

import numpy as np

from conformask.conformal.crossing import SLACK, passes
from conformask.conformal.intervals import grouped_proportion
from conformask.conformal.law import (
    Labels,
    PerImage,
    Tails,
    first_of_each,
    mean_loss,
    met_tails,
    resampled_tails,
)
from conformask.conformal.populations import EachCategory, Weighted
from conformask.masker.masker import Masker
from conformask.records.evaluation import Measurement

LEVEL = 0.01
"""How often a promise that is kept may be called broken."""


@dataclass(frozen=True)
class Agreement:
    """What the promise bounds, as it was measured, and how often chance alone brings that about."""

    loss: float
    """The share of images that fail, or their mean distance."""
    allowed: float
    """1 - confidence, or the threshold."""
    tails: Tails | None
    """None where no law is known."""

    def broken(self, level: float) -> bool:
        """Whether more is lost than promised, and more than chance explains at this level."""
        more = self.loss > self.allowed * (1 + SLACK)
        return more and self.tails is not None and self.tails.worse < level


def measured(
    masker: Masker,
    distances: PerImage,
    groups: Labels,
    categories: Labels | None = None,
    level: float = LEVEL,
) -> Measurement:
    """What the masked distances of images with truth say of the promise; see `agreement`."""
    met = passes(distances, masker.card.threshold)
    coverage, interval = grouped_proportion(met, groups, each_group_alike=masker.guarantee.by_group)
    held = agreement(masker, distances, groups, categories)
    return Measurement(
        n=len(distances),
        coverage=coverage,
        coverage_interval=interval,
        mean_distance=float(distances.mean()),
        p_worse=None if held.tails is None else held.tails.worse,
        broken=held.broken(level),
    )


def agreement(
    masker: Masker, distances: PerImage, groups: Labels, categories: Labels | None = None
) -> Agreement:
    """Hold the masked distances of images against the promise.

    For the law one image of a group counts, unless the promise is about groups; of categories the worst,
    corrected for their number. No law is known for weighted promises, nor where one has to be drawn from
    curves and none are stored.
    """
    promise, threshold = masker.guarantee, masker.card.threshold
    losses, allowed = promise.statement.losses(distances, threshold), promise.statement.allowed(threshold)
    if isinstance(promise.population, EachCategory):
        return _worst_category(masker, losses, allowed, groups, np.asarray(categories))
    if promise.by_group:
        return Agreement(mean_loss(losses, groups), allowed, _tails(masker, losses, groups))
    single = losses[first_of_each(groups)]
    return Agreement(mean_loss(losses, None), allowed, _tails(masker, single, None))


def _tails(masker: Masker, losses: PerImage, groups: Labels | None) -> Tails | None:
    promise, n = masker.guarantee, masker.card.n_calibration
    rank = promise.rank(n)
    if rank is not None:
        return met_tails(n, rank, losses == 0)
    if masker.curves is None or isinstance(promise.population, Weighted):
        return None
    calibration = masker.evidence()
    return resampled_tails(promise.fixed(calibration, n), calibration, losses, groups)


def _worst_category(
    masker: Masker, losses: PerImage, allowed: float, groups: Labels, categories: Labels
) -> Agreement:
    """That of the category in which chance brings about as much most rarely."""
    if masker.curves is None:
        return Agreement(mean_loss(losses, None), allowed, None)
    calibrated, agreements = masker.curves.category, []
    for category in np.unique(categories):
        own, n = categories == category, int((calibrated == category).sum())
        single = losses[own][first_of_each(groups[own])]
        tails = met_tails(n, masker.guarantee.certainty.rank(n, 1 - allowed), single == 0)
        agreements.append((tails, mean_loss(losses[own], None)))
    tails, loss = min(agreements, key=lambda each: each[0].worse)
    return Agreement(loss, allowed, tails.corrected(len(agreements)))
