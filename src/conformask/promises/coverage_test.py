"""Tests of whether a measurement agrees with a promise: the law of coverage and losses on new images.

A calibration set is itself a sample, so coverage a little below the promised share may be chance. The laws
here are over both the calibration set and the new images.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Float

from conformask.promises.axes import Places, members
from conformask.promises.order import CalibrationData
from conformask.promises.promise import Promise
from conformask.promises.rules import Rule

UNLIKELY = 0.025
"""Probability, on either side, below which a measurement is not ascribed to chance."""
DRAWS = 400
"""Number of bootstrap draws."""
UNITS = 1000
"""Number of new units in each draw, where the result is about all new units."""
PerImage = Float[np.ndarray, "n"]


@dataclass(frozen=True)
class PValues:
    """The p-values of a measurement, if new images are like the calibration's."""

    worse: float
    better: float
    expected: tuple[float, float] | None = None
    """The mean losses between which a share 1 - 2 * UNLIKELY of such measurements lie."""

    def correct(self, comparisons: int) -> "PValues":
        """Return the p-values for the worst of this many comparisons (Bonferroni)."""
        return PValues(min(1.0, comparisons * self.worse), self.better)


def largest_failing_share(n: int, rank: int, level: float) -> float:
    """Return the largest plausible share of failing new images under the rank-th of n critical lambdas.

    A share `level` of calibration sets may exceed it: the quantile of Beta(j, n + 1 - j), exact where
    critical lambdas are distinct; where they tie, fewer fail.
    """
    return float(scipy.stats.beta.ppf(1 - level, rank, n + 1 - rank)) if rank else 0.0


def coverage_p_values(n: int, rank: int, met: Bool[np.ndarray, "m"]) -> PValues:
    """Return p-values for the number of new images that pass under the rank-th of n critical lambdas.

    Beta-binomial(m; n + 1 - j, j): exact where critical lambdas are distinct; where they tie, more meet it.
    """
    law = scipy.stats.betabinom(len(met), n + 1 - rank, rank)
    fewest, most = law.ppf([UNLIKELY, 1 - UNLIKELY]) / len(met)
    expected = float(1 - most), float(1 - fewest)
    return PValues(float(law.cdf(met.sum())), float(law.sf(met.sum() - 1)), expected)


def resampled_p_values(
    promise: Promise, calibration: CalibrationData, losses: PerImage, comparisons: int = 1
) -> PValues:
    """Return p-values for the mean loss of new units, by the bootstrap.

    Calibration set and new images are drawn from the calibration images, whole groups where the promise
    counts groups, and the rule is made from the drawn set. Of several comparisons each needs smaller
    p-values, hence more draws.
    """
    mean_loss = losses.mean()
    resampled_means = np.array(list(_draws(promise, calibration, len(losses), comparisons * DRAWS)))
    worse, better = (
        # + 1 counts the measurement as a draw: a p-value is never 0
        float(1 + beyond.sum()) / (1 + len(resampled_means))
        for beyond in (resampled_means >= mean_loss, resampled_means <= mean_loss)
    )
    low, high = np.quantile(resampled_means, [UNLIKELY, 1 - UNLIKELY])
    return PValues(worse, better, (float(low), float(high)))


def resampled_failing_share(promise: Promise, calibration: CalibrationData, level: float) -> float:
    """Return the share of failing new units that a share `level` of sets exceeds, by the bootstrap."""
    return float(np.quantile(list(_draws(promise, calibration, UNITS, DRAWS)), 1 - level))


def _draws(promise: Promise, calibration: CalibrationData, units: int, draws: int) -> Iterator[float]:
    """Yield the mean losses of resampled new images under resampled calibration sets."""
    generator = np.random.default_rng(0)
    by_group = promise.by_group
    group_members = members(calibration.column("group") if by_group else np.arange(calibration.n))
    for _ in range(draws):
        rule = promise.rule(calibration.take(*_draw_groups(group_members, len(group_members), generator)))
        places, groups = _draw_groups(group_members, units, generator)
        losses = _losses(promise, calibration.take(places, groups), rule)
        yield float(promise.axes.unit.losses(losses, groups).mean())


def _losses(promise: Promise, images: CalibrationData, rule: Rule) -> PerImage:
    lambdas = rule(images.curves.covariates)
    if images.monotone and not promise.axes.statement.bounds_a_mean:
        return (images.critical_lambdas < lambdas).astype(np.float64)
    points = np.searchsorted(images.curves.grid, lambdas, side="right") - 1
    losses = images.curves.loss[np.arange(images.n), points]
    return promise.axes.statement.bounded(losses, images.threshold)


def _draw_groups(
    group_members: list[Places], count: int, generator: np.random.Generator
) -> tuple[Places, Places]:
    """Draw `count` groups; return the places of their images, and groups: one drawn twice counts as two."""
    places = [group_members[group] for group in generator.integers(len(group_members), size=count)]
    return np.concatenate(places), np.repeat(np.arange(count), [len(place) for place in places])
