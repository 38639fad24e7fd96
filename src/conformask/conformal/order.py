"""Order statistics of the critical lambdas that keep a promise; they are never interpolated."""

import math
from collections.abc import Callable

import numpy as np
import scipy
from jaxtyping import Float

ROUNDING = 1e-9
"""Tolerance in floors and comparisons with 1 - confidence: 1 / (9 + 1) <= 1 - .9 is false in floats."""


def marginal_rank(n: int, confidence: float) -> int:
    """Return j = floor((1 - confidence)(n + 1)), the rank that is deployed; 0 means none (void)."""
    return min(n, math.floor((1 - confidence) * (n + 1) + ROUNDING))


def smallest_marginal_set(confidence: float) -> int:
    """Return the smallest n whose marginal rank is at least 1: n >= confidence / (1 - confidence)."""
    return max(1, math.ceil((1 - ROUNDING) / (1 - confidence)) - 1)


def binomial_rank(n: int, confidence: float, delta: float) -> int:
    """Return max{j : P(Bin(n, 1 - confidence) <= j - 1) <= delta}, a tolerance bound (Wilks 1941)."""
    successes = int(scipy.stats.binom.ppf(delta, n, 1 - confidence))
    exceeds = scipy.stats.binom.cdf(successes, n, 1 - confidence) > delta * (1 + ROUNDING)
    return successes if exceeds else successes + 1


def smallest_binomial_set(confidence: float, delta: float) -> int:
    """Return the smallest n whose binomial rank is at least 1: confidence^n <= delta."""
    return max(1, math.ceil((math.log(delta) + ROUNDING) / math.log(confidence)))


def smallest_set(suffices: Callable[[int], bool]) -> int:
    """Return the smallest n that suffices, if all larger n suffice too, by doubling and bisection."""
    high = 1
    while not suffices(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def smallest(critical: Float[np.ndarray, "n"], rank: int) -> float:
    """Return the rank-th smallest critical lambda; 0 (mask everything) where the rank is 0."""
    return 0.0 if rank < 1 else float(np.partition(critical, rank - 1)[rank - 1])


def largest_lambda(critical: Float[np.ndarray, "n"], weights: Float[np.ndarray, "n"], budget: float) -> float:
    """Return max{lam : the weights of the critical lambdas below it sum to at most the budget}.

    It is 0 (mask everything) where the budget is negative, inf where all weights are within it.
    """
    if budget < -ROUNDING:
        return 0.0
    order = np.argsort(critical, kind="stable")
    index = int(np.searchsorted(weights[order].cumsum(), budget + ROUNDING, side="right"))
    return float(critical[order[index]]) if index < len(critical) else math.inf


def coverage_range(n: int, rank: int | None, level: float = 0.9) -> tuple[float, float] | None:
    """Return the range of coverage for this share of calibration sets: Beta(n + 1 - j, j).

    The law is exact where critical lambdas are distinct, else coverage is at or above it. It is (1, 1) where
    everything is masked, None where the deployed lambda has no rank.
    """
    if rank is None:
        return None
    if rank < 1:
        return 1.0, 1.0
    tail = (1 - level) / 2
    low, high = scipy.stats.beta.ppf([tail, 1 - tail], n + 1 - rank, rank)
    return float(low), float(high)
