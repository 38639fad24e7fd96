"""What images like those of the calibration would measure: whether a measurement agrees with a promise.

A calibration set is a sample, too, so that coverage a little below the promised share may be chance. The laws
here are over both, calibration set and new images.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import stats

from conformask.conformal.evidence import Evidence
from conformask.conformal.facts import facts_of
from conformask.conformal.promise import Promise
from conformask.conformal.rules import Rule

DRAWS = 400
"""Of the bootstrap."""
PerImage = Float[np.ndarray, "n"]
Labels = Shaped[np.ndarray, "n"]
Places = Int[np.ndarray, "_"]


@dataclass(frozen=True)
class Tails:
    """How often images like those of the calibration measure as bad as this or worse; as good or better."""

    worse: float
    better: float

    def corrected(self, comparisons: int) -> "Tails":
        """For the worst of so many comparisons (Bonferroni)."""
        return Tails(min(1.0, comparisons * self.worse), self.better)


def met_tails(n: int, rank: int, met: Bool[np.ndarray, "m"]) -> Tails:
    """Of how many new images meet the threshold under the rank-th of n critical lambdas.

    Beta-binomial(m; n + 1 - j, j): exact where critical lambdas are distinct; where they tie, more meet it.
    """
    law = stats.betabinom(len(met), n + 1 - rank, rank)
    return Tails(float(law.cdf(met.sum())), float(law.sf(met.sum() - 1)))


def resampled_tails(
    promise: Promise, calibration: Evidence, losses: PerImage, groups: Labels | None
) -> Tails:
    """Of the mean loss of new images, by the bootstrap.

    Calibration set and new images are drawn from the calibration images, whole groups where the promise
    counts groups, and the rule is made from the drawn set.
    """
    measured = mean_loss(losses, groups)
    units = len(losses) if groups is None else len(np.unique(groups))
    drawn = np.array(list(_draws(promise, calibration, units)))
    worse, better = (
        float(1 + beyond.sum()) / (1 + DRAWS) for beyond in (drawn >= measured, drawn <= measured)
    )
    return Tails(worse, better)


def mean_loss(losses: PerImage, groups: Labels | None) -> float:
    """What the promise bounds: the mean over images, or over groups of theirs."""
    return float(losses.mean() if groups is None else group_means(losses, groups).mean())


def group_means(values: PerImage, groups: Labels) -> Float[np.ndarray, "g"]:
    """The mean of each group."""
    _, index = np.unique(groups, return_inverse=True)
    return np.asarray(np.bincount(index, values) / np.bincount(index))


def first_of_each(groups: Labels) -> Places:
    """The place of the first image of each group, ascending."""
    return np.sort(np.unique(groups, return_index=True)[1])


def _draws(promise: Promise, calibration: Evidence, units: int) -> Iterator[float]:
    """The mean loss of resampled new images under resampled calibration sets."""
    generator = np.random.default_rng(0)
    grouped = promise.by_group
    members = _members(calibration.column("group") if grouped else np.arange(calibration.n))
    for _ in range(DRAWS):
        rule = promise.rule(calibration.take(*_drawn(members, len(members), generator)))
        places, groups = _drawn(members, units, generator)
        losses = _losses(promise, calibration.take(places, groups), rule)
        yield mean_loss(losses, groups if grouped else None)


def _losses(promise: Promise, images: Evidence, rule: Rule) -> PerImage:
    lambdas = rule(facts_of(images.curves))
    if images.monotone and not promise.statement.bounds_a_mean:
        return (images.critical_lambdas < lambdas).astype(np.float64)
    points = np.searchsorted(images.curves.grid, lambdas, side="right") - 1
    distances = images.curves.distance[np.arange(images.n), points]
    return promise.statement.losses(distances, images.threshold)


def _members(groups: Labels) -> list[Places]:
    """The places of the images of each group."""
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(groups[order], return_index=True)
    return np.split(order, starts[1:])


def _drawn(members: list[Places], count: int, generator: np.random.Generator) -> tuple[Places, Places]:
    """The places of the images of so many groups drawn, and their groups: one drawn twice counts as two."""
    places = [members[group] for group in generator.integers(len(members), size=count)]
    return np.concatenate(places), np.repeat(np.arange(count), [len(place) for place in places])
