"""Ranks that keep pac promises at all confidences at once: an exact band for uniform order statistics."""

from functools import lru_cache

import numpy as np
import scipy
from jaxtyping import Float

NEGLIGIBLE = 1e-18
"""Probabilities below this are dropped, which makes the band wider, never narrower."""


@lru_cache(maxsize=1024)
def pointwise_delta(n: int, delta: float) -> float:
    """Return the delta of a single rank with which all n ranks hold at once with probability 1 - delta.

    The j-th of n uniform order statistics exceeds its bound, the 1 - pointwise delta quantile of
    Beta(j, n + 1 - j), for some j with probability delta.
    """

    def excess(log_delta: float) -> float:
        return 1 - probability_below_all(rank_bounds(n, float(np.exp(log_delta)))) - delta

    low, high = np.log(delta / n), np.log(delta)
    if n == 1 or excess(low) > 0:
        return float(np.exp(low))
    root = float(scipy.optimize.brentq(excess, low, high, xtol=1e-4))
    # brentq may stop on the side where the band is too narrow
    while excess(root) > 0:
        root -= 1e-4
    return float(np.exp(root))


def rank_bounds(n: int, delta: float) -> Float[np.ndarray, "n"]:
    """Return the value that each of n uniform order statistics exceeds with probability delta."""
    ranks = np.arange(1, n + 1)
    return np.asarray(scipy.stats.beta.isf(delta, ranks, n + 1 - ranks))


def probability_below_all(bounds: Float[np.ndarray, "n"]) -> float:
    """Compute P(U_(j) <= bounds_j for all j), U uniform, by Noe's recursion as a Poisson process.

    At each bound, at least as many points as there are bounds so far must have come (Khmaladze and
    Shinjikashvili 2001; Moscovich and Nadler 2017). Bounds are ascending.
    """
    n = len(bounds)
    start, mass = 0, np.array([1.0])
    for needed, step in enumerate(np.diff(bounds, prepend=0.0, append=1.0), start=1):
        mass = np.convolve(mass, _increments(n * step))
        n_dropped = max(0, min(needed, n) - start)
        mass, start = mass[n_dropped:], start + n_dropped
        counts = np.flatnonzero(mass > NEGLIGIBLE)
        if len(counts) == 0:
            return 0.0
        mass, start = mass[counts[0] : counts[-1] + 1], start + int(counts[0])
    if not start <= n < start + len(mass):
        return 0.0
    return float(mass[n - start] / scipy.stats.poisson.pmf(n, n))


def _increments(rate: float) -> Float[np.ndarray, "k"]:
    """Return the Poisson law of new points, where it is not negligible."""
    counts = np.arange(int(rate + 12 * np.sqrt(rate) + 24))
    return np.asarray(np.exp(scipy.special.xlogy(counts, rate) - rate - scipy.special.gammaln(counts + 1)))
