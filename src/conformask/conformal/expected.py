"""Promises about a mean distance: conformal risk control (Angelopoulos et al. 2024)."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from conformask.conformal.evidence import Evidence
from conformask.conformal.order import ROUNDING
from conformask.conformal.rules import BoundedRisk, ConstantLambda
from conformask.conformal.words import mean, rate
from conformask.errors import InvalidArgumentError

CHOICES = 40
"""How many t are tried on the selection images."""


@dataclass(frozen=True)
class Expected:
    """E d(m*y, m*y_hat) <= threshold over calibration and test image, if exchangeable."""

    confidence: ClassVar[None] = None
    delta: ClassVar[None] = None
    bounds_a_mean: ClassVar[bool] = True
    name: ClassVar[str] = "expected"
    needs: ClassVar[frozenset[str]] = frozenset({"grid", "upper_bound", "bound_curve"})

    def claim(self, distance: str, threshold: float) -> str:
        """E distance <= threshold."""
        return mean(distance, threshold)

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """The smallest n with upper_bound / (n + 1) <= threshold; 1 where images have bounds of their own."""
        return _smallest_set(0.0, 1.0, threshold, upper_bound)

    def rank(self, n: int) -> None:
        """A mean is no rank."""

    def fixed(self, selection: Evidence, n: int) -> "Expected":
        """Nothing is to be chosen."""
        return self

    def rule(self, evidence: Evidence) -> "ConstantLambda | BoundedRisk":
        """max{lam : (sum of risks + bound) / (n + 1) <= threshold}, the bound the image's own for lp."""
        return risk_rule(evidence, 0.0, 1.0)


@dataclass(frozen=True)
class ConditionalMean:
    """P(E[d(m*y, m*y_hat) | x] <= threshold) >= confidence: the paper's condition (3) as it is written.

    Risk control at level threshold of t + max(d - t, 0) / (1 - confidence), t < threshold, bounds the
    conditional value at risk of d, hence that of its conditional mean (Rockafellar and Uryasev 2000).
    """

    confidence: float
    t: float = 0.0
    """Chosen on the selection images."""
    delta: ClassVar[None] = None
    bounds_a_mean: ClassVar[bool] = True
    name: ClassVar[str] = "conditional_mean"
    needs: ClassVar[frozenset[str]] = frozenset({"grid", "upper_bound", "bound_curve", "selection"})

    @property
    def steepness(self) -> float:
        """1 / (1 - confidence)."""
        return 1 / (1 - self.confidence)

    def claim(self, distance: str, threshold: float) -> str:
        """P(E[distance | x] <= threshold) >= confidence."""
        return rate(f"E[{distance} | x]", threshold, self.confidence)

    def smallest_calibration_set(self, threshold: float | None, upper_bound: float | None) -> int:
        """Fewer would break the bound even with closed masks; 1 where images have bounds of their own."""
        return _smallest_set(self.t, self.steepness, threshold, upper_bound)

    def rank(self, n: int) -> None:
        """A mean is no rank."""

    def fixed(self, selection: Evidence, n: int) -> "ConditionalMean":
        """With the t that opens the masks of the selection images most, as if they were n."""
        choices = np.linspace(0, selection.threshold, CHOICES, endpoint=False)
        opened = [self._opened(selection, float(t), n) for t in choices]
        return replace(self, t=float(choices[int(np.argmax(opened))]))

    def _opened(self, selection: Evidence, t: float, n: int) -> int:
        """How many grid points t lets through, at the mean risk and bound of the selection images."""
        bound = np.full(len(selection.curves.grid), selection.upper_bound)
        if selection.own_bound:
            bound = 1 - selection.curves.size.mean(axis=0)
        risks = tail_risk(selection.risk(), t, self.steepness).mean(axis=0)
        total = n * risks + tail_risk(bound, t, self.steepness)
        return int((total <= (n + 1) * selection.threshold).sum())

    def rule(self, evidence: Evidence) -> "ConstantLambda | BoundedRisk":
        """Risk control of t + max(d - t, 0) / (1 - confidence)."""
        return risk_rule(evidence, self.t, self.steepness)


def tail_risk(risk: Float[np.ndarray, "..."], t: float, steepness: float) -> Float[np.ndarray, "..."]:
    """t + steepness * max(risk - t, 0); the risk itself for t = 0 and steepness 1."""
    return np.asarray(t + steepness * np.maximum(risk - t, 0))


def risk_rule(evidence: Evidence, t: float, steepness: float) -> ConstantLambda | BoundedRisk:
    """max{lam on the grid : (sum of tail risks + that of the bound) / (n + 1) <= threshold}.

    Raises:
        InvalidArgumentError: the distance has no upper bound.
    """
    total = tail_risk(evidence.risk(), t, steepness).sum(axis=0)
    rule = BoundedRisk(evidence.curves.grid, total, evidence.n, evidence.threshold, t, steepness)
    if evidence.own_bound:
        return rule
    if evidence.upper_bound is None:
        raise InvalidArgumentError("a promise about a mean needs a distance with an upper bound")
    bound = np.full((1, len(evidence.curves.grid)), evidence.upper_bound)
    return ConstantLambda(float(rule.lambdas(bound)[0]))


def _smallest_set(t: float, steepness: float, threshold: float | None, upper_bound: float | None) -> int:
    if upper_bound is None:
        return 1
    if threshold is None:
        raise InvalidArgumentError("a promise about a mean depends on the threshold: give one")
    needed = (tail_risk(np.array(upper_bound), t, steepness) - t) / (threshold - t)
    return max(1, math.ceil(float(needed) * (1 - ROUNDING)) - 1)
