"""Conformal selection: which new units to release, by p-values for "this one fails" (Jin and Candes 2023).

A batch is released by the procedure of Benjamini and Hochberg (1995). Theorem: let the units of calibration,
(Z_1, ..., Z_n), and each new one be exchangeable given the other new ones; let a unit fail if its critical
lambda is below the deployed one, which is the j-th smallest of those of calibration, j fixed; let the risk be
a function of a unit that is fixed beforehand. Then E[released units that fail / released units] <= share.

That lambda is chosen on the same images costs nothing. If a new unit fails, its critical lambda is below the
j-th smallest of the n others, so that the latter is the (j+1)-th smallest of all n + 1, ties included: a
symmetric function of them. On this event lambda, and who of the n + 1 fails, may be read from the set alone.
Given the set, the new unit is any of its failing members with equal probability, and its p-value is the share
of the n + 1 that fail with at most its risk: P(fails, p-value <= t) <= t. For the batch, replace the p-value
of each other new unit by the one that counts the failing unit among the n + 1 instead of adding 1: it is
constant given the set, and lower only for units of less risk, whose p-values are at most the failing unit's
both before and after, so that whoever is released together with the failing unit stays the same. Leaving one
out (Theorem 3 of their paper) each new unit contributes at most share / m. A loss that is not monotone fails
at the deployed grid point only if its first crossing is below, so that failing is counted too often, which is
conservative.

Held back: some new units are not tested, because they are unlike those of calibration; their p-value is 1,
and they count among the m. Why that keeps the theorem: given the set and the other new units, whether each
other new one is held back must not depend on which failing member of the set is the new unit. It does not if

- values are compared with the ranges of calibration units that do not fail. They are the members of the set
  that do not, whichever failing one is new. Ranges of all calibration units would not do: they shrink where
  the new unit is an extreme one;
- sizes must be among those of calibration units, or between the smallest and the largest. A new unit that is
  tested adds no size and no extreme to those of the others, so that the set alone says which sizes are known.

So replacing p-values as above changes none that is 1, and the argument holds on the event that the new unit
is tested; where it is not, it is not released. What is not enough, by simulation of adversarial units (share
.1): leaving held-back units out of the m, .148 with n = 9, and .133 with n = 19 and ranges as here; counting
them with ranges of all calibration units, .1028 with n = 19 (5 standard errors). Leaving units out lets
passing ones leave the batch, and P(tested, fails, p-value <= t) <= t is not t P(tested).

A unit that is judged by itself, p-value <= share, fails and is released with probability at most the share,
whatever the others are and whichever are held back. In a stream, LOND (Javanmard and Montanari 2015) would
keep the share of the released by the same argument, but soon needs p-values far below 1 / (n + 1).
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from conformask.promises.order import ROUNDING


def p_values(
    failed: Bool[np.ndarray, "n"], risks: Float[np.ndarray, "n"], new: Float[np.ndarray, "m"]
) -> Float[np.ndarray, "m"]:
    """Return (1 + #{k : unit k failed, risks_k <= risk}) / (n + 1) for the risk of each new unit.

    Ties count as failing first, so that no random numbers are drawn and p-values are conservative.
    """
    below = np.searchsorted(np.sort(risks[failed]), new, side="right")
    return np.asarray((1 + below) / (len(risks) + 1))


def benjamini_hochberg(p: Float[np.ndarray, "m"], share: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which units are released: p <= share * k / m, for the largest k that k of them satisfy."""
    ranked, m = np.sort(p), len(p)
    passing = np.flatnonzero(ranked <= share * np.arange(1, m + 1) / m + ROUNDING)
    return p <= (ranked[passing[-1]] if len(passing) else -1.0)
