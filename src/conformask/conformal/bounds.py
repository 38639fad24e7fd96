"""Tests of whether the mean of independent losses in [0, 1] is at most a level."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy import stats

from conformask.conformal.order import ROUNDING

Certifies = Callable[[Float[np.ndarray, "n"], float, float], bool]
"""A test (losses, level, delta) -> bool that the mean is <= level; wrongly true with probability <= delta."""


def waudby_smith_ramdas(losses: Float[np.ndarray, "n"], level: float, delta: float) -> bool:
    """Return whether bets against a mean above the level win 1 / delta (Waudby-Smith and Ramdas 2024).

    The stakes depend on earlier losses only, so the order of the losses counts.
    """
    n = len(losses)
    if level >= 1:
        return True
    count = np.arange(1, n + 1)
    mean = (0.5 + losses.cumsum()) / (count + 1)
    variance = (0.25 + ((losses - mean) ** 2).cumsum()) / (count + 1)
    # a stake may use only losses before its own, or the wealth would be no martingale
    earlier_variance = np.concatenate([[0.25], variance[:-1]])
    stake = np.minimum(1, np.sqrt(2 * math.log(1 / delta) / (n * earlier_variance)))
    with np.errstate(divide="ignore"):
        wealth = np.log1p(-stake * (losses - level)).cumsum()
    return bool(wealth.max() >= math.log(1 / delta) * (1 - ROUNDING))


def hoeffding_bentkus(losses: Float[np.ndarray, "n"], level: float, delta: float) -> bool:
    """Return whether the smaller of Hoeffding's and Bentkus' p-value is <= delta (Bates et al. 2021).

    Bentkus' takes the ceiling of the sum of losses; its floor would be optimistic.
    """
    n, total = len(losses), float(losses.sum())
    if level >= 1:
        return True
    hoeffding = math.exp(-n * _relative_entropy(min(total / n, level), level))
    bentkus = math.e * float(stats.binom.cdf(math.ceil(total * (1 - ROUNDING)), n, level))
    return min(hoeffding, bentkus) <= delta * (1 + ROUNDING)


def _relative_entropy(a: float, b: float) -> float:
    """Return the relative entropy of Bernoulli laws of means a <= b < 1."""
    first = a * math.log(a / b) if a > 0 else 0.0
    return first + ((1 - a) * math.log((1 - a) / (1 - b)) if a < 1 else 0.0)
