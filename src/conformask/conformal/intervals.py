"""Intervals for what an evaluation measured."""

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

Values = Float[np.ndarray, "n"]


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a proportion (Clopper and Pearson 1934)."""
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(stats.beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(stats.beta.ppf(1 - tail, successes + 1, n - successes))
    return low, high


def bootstrap(
    values: Values,
    *,
    groups: np.ndarray[Any, np.dtype[Any]] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean; whole groups are drawn where there are groups."""
    generator = np.random.default_rng(seed)
    if groups is None or len(np.unique(groups)) == len(values):
        draw = values[generator.integers(len(values), size=(draws, len(values)))].mean(axis=1)
    else:
        draw = _group_means(values, groups, generator, draws)
    tail = (1 - level) / 2
    return float(np.quantile(draw, tail)), float(np.quantile(draw, 1 - tail))


def _group_means(
    values: Values, groups: np.ndarray[Any, np.dtype[Any]], generator: np.random.Generator, draws: int
) -> Float[np.ndarray, "r"]:
    _, index = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(index, values), np.bincount(index)
    chosen = generator.integers(len(sums), size=(draws, len(sums)))
    return np.asarray(sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1))
