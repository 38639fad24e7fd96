"""Intervals for the results of an evaluation, and the correlation of two measures."""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
from jaxtyping import Bool, Float, Shaped

Values = Float[np.ndarray, "n"]
NOTHING = 1e-12
"""A variance of shares below this is rounding."""
BATCH = 100
"""Number of bootstrap draws in memory at once."""


def clopper_pearson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a proportion (Clopper and Pearson 1934); n may be an effective number."""
    tail = (1 - level) / 2
    low = 0.0 if successes <= 0 else float(scipy.stats.beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes >= n else float(scipy.stats.beta.ppf(1 - tail, successes + 1, n - successes))
    return low, high


def grouped_proportion(
    successes: Bool[np.ndarray, "n"], groups: Shaped[np.ndarray, "n"], *, each_group_alike: bool = False
) -> tuple[float, tuple[float, float]]:
    """Return a proportion and its 95 % interval if images of a group are dependent (Korn and Graubard 1998).

    It is the Clopper-Pearson interval with the effective number of images, from the variance between groups;
    exact where each image is its own group. Groups count by their images, or alike with each_group_alike.
    """
    _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    n, k = len(successes), len(counts)
    sizes = counts if each_group_alike else np.full(k, n / k)
    means = np.bincount(index, successes / sizes[index])
    share = float(means.mean()) if each_group_alike else float(successes.mean())
    if k == n:
        return share, clopper_pearson(int(successes.sum()), n)
    variance = float(((means - share * counts / sizes) ** 2).sum()) / (k * max(k - 1, 1))
    if variance < NOTHING:
        return share, clopper_pearson(share * k, k)
    # the variance has the degrees of freedom of k groups, not of n images (Korn and Graubard 1998)
    t_ratio = (scipy.stats.t.ppf(0.025, n - 1) / scipy.stats.t.ppf(0.025, k - 1)) ** 2
    n_effective = min(n, t_ratio * share * (1 - share) / variance)
    return share, clopper_pearson(share * n_effective, n_effective)


def resampled(
    measure: Callable[..., Any], *columns: Shaped[np.ndarray, "n"], draws: int = 2000, seed: int = 0
) -> Float[np.ndarray, "draws"]:
    """Return a measure of bootstrap draws; it maps columns (draws, n), drawn in pairs, to (draws,)."""
    generator, n = np.random.default_rng(seed), len(columns[0])
    measured = []
    for start in range(0, draws, BATCH):
        places = generator.integers(n, size=(min(BATCH, draws - start), n))
        measured.append(measure(*(column[places] for column in columns)))
    return np.concatenate(measured)


def percentiles(values: Values, level: float = 0.95) -> tuple[float, float]:
    """Return the interval that holds a share `level` of the values, with as many below it as above."""
    tail = (1 - level) / 2
    return float(np.quantile(values, tail)), float(np.quantile(values, 1 - tail))


def bootstrap(
    values: Values, *, groups: Shaped[np.ndarray, "n"] | None = None, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean; groups, if any, are drawn whole."""
    _, index = np.unique(np.arange(len(values)) if groups is None else groups, return_inverse=True)
    sums, counts = np.bincount(index, values), np.bincount(index)
    if len(sums) == 1:
        return float(values.mean()), float(values.mean())

    def mean(sums: Float[np.ndarray, "d k"], counts: Shaped[np.ndarray, "d k"]) -> Float[np.ndarray, "d"]:
        return np.asarray(sums.sum(axis=-1) / counts.sum(axis=-1))

    return percentiles(resampled(mean, sums, counts, seed=seed), level)


def correlation(a: Values, b: Values, *, of_ranks: bool = False) -> float | None:
    """Return Pearson's or, of ranks, Spearman's; None of a constant or of fewer than three finite pairs."""
    finite = np.isfinite(a) & np.isfinite(b)
    if finite.sum() < 3 or np.ptp(a[finite]) == 0 or np.ptp(b[finite]) == 0:
        return None
    measure = scipy.stats.spearmanr if of_ranks else scipy.stats.pearsonr
    return float(measure(a[finite], b[finite]).statistic)
