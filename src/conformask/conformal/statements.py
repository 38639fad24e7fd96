"""Statements of a promise about new images: how many meet the threshold, or an upper limit of a mean."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.crossing import meets_threshold
from conformask.errors import InvalidArgumentError

PerImage = Float[np.ndarray, "n"]
CHOICES = 40
"""Number of values of t that are tried on the selection images."""


@dataclass(frozen=True)
class Coverage:
    """The statement that a share of at least `confidence` has d(m*y, m*y_hat) <= threshold."""

    confidence: float
    says: ClassVar[str] = "a share"
    bounds_a_mean: ClassVar[bool] = False
    measurable: ClassVar[bool] = True
    needs_selection: ClassVar[bool] = False

    def claim(self, loss: str, threshold: float, condition: str) -> str:
        """Return the formula P(loss <= threshold given) >= confidence."""
        return rate(loss, threshold, self.confidence, condition)

    def bounded(self, losses: PerImage, threshold: float) -> PerImage:
        """Return 1 for each image that fails, else 0."""
        return (~meets_threshold(losses, threshold)).astype(np.float64)

    def allowed(self, threshold: float) -> float:
        """Return the largest mean loss allowed: 1 - confidence."""
        return 1 - self.confidence


class _MeanStatement:
    """Common part of the statements about a mean."""

    bounds_a_mean: ClassVar[bool] = True

    def bounded(self, losses: PerImage, threshold: float) -> PerImage:
        """Return the losses."""
        return losses

    def allowed(self, threshold: float) -> float:
        """Return the largest mean loss allowed: the threshold."""
        return threshold


@dataclass(frozen=True)
class ExpectedLoss(_MeanStatement):
    """The statement that E d(m*y, m*y_hat) <= threshold."""

    says: ClassVar[str] = "a mean"
    event: ClassVar[str] = "the mean {mean} is at most the threshold"
    silent: ClassVar[str] = "a limit for any single image"
    confidence: ClassVar[None] = None
    measurable: ClassVar[bool] = True
    needs_selection: ClassVar[bool] = False
    t: ClassVar[float] = 0.0
    steepness: ClassVar[float] = 1.0

    def claim(self, loss: str, threshold: float, condition: str) -> str:
        """Return the formula E loss <= threshold."""
        return mean(loss, threshold, condition)


@dataclass(frozen=True)
class ConditionalExpectedLoss(_MeanStatement):
    """P(E[d(m*y, m*y_hat) | x] <= threshold) >= confidence: the paper's condition (3) as written.

    If the mean of t + max(d - t, 0) / (1 - confidence), with t < threshold, is at most the threshold, that
    bounds the conditional value at risk of d, hence that of its conditional mean (Rockafellar and Uryasev
    2000).
    """

    confidence: float
    t: float = 0.0
    """The start of the tail, chosen on the selection images."""
    says: ClassVar[str] = "a conditional mean"
    event: ClassVar[str] = (
        "for at least {{c}} of inputs, the loss averaged over the truths that the input leaves "
        "possible is at most the threshold"
    )
    silent: ClassVar[str] = "a limit for any single truth"
    measurable: ClassVar[bool] = False
    """False: one truth for each input cannot show the mean over its truths."""
    needs_selection: ClassVar[bool] = True

    @property
    def steepness(self) -> float:
        """The slope of the tail risk: 1 / (1 - confidence)."""
        return 1 / (1 - self.confidence)

    def claim(self, loss: str, threshold: float, condition: str) -> str:
        """Return the formula P(E[loss | x] <= threshold) >= confidence."""
        return rate(f"E[{loss} | x]", threshold, self.confidence, condition)

    def fit_on_selection(self, selection: CalibrationData, n: int) -> "ConditionalExpectedLoss":
        """Choose the t that opens the masks of the selection images most, as if they were n."""
        choices = np.linspace(0, selection.threshold, CHOICES, endpoint=False)
        n_passing = [replace(self, t=float(t)).count_passing(selection, n) for t in choices]
        return replace(self, t=float(choices[int(np.argmax(n_passing))]))

    def count_passing(self, selection: CalibrationData, n: int) -> int:
        """Count the grid points that pass, at the mean risk and bound of the selection images."""
        bound = np.full(len(selection.curves.grid), selection.upper_bound)
        if selection.own_bound:
            bound = 1 - selection.curves.size.mean(axis=0)
        risks, own_risk = (tail_risk(risk, self.t, self.steepness) for risk in (selection.risk(), bound))
        total = n * risks.mean(axis=0) + own_risk
        return int((total <= (n + 1) * selection.threshold).sum())


Statement = Coverage | ExpectedLoss | ConditionalExpectedLoss


def require_threshold(threshold: float | None) -> float:
    """Return the threshold, which a promise about a mean depends on.

    Raises:
        InvalidArgumentError: no threshold is given.
    """
    if threshold is None:
        raise InvalidArgumentError("a promise about a mean depends on the threshold: give one")
    return threshold


def tail_risk(risk: Float[np.ndarray, "..."], t: float, steepness: float) -> Float[np.ndarray, "..."]:
    """Return t + steepness * max(risk - t, 0); the risk itself for t = 0 and steepness 1."""
    return np.asarray(t + steepness * np.maximum(risk - t, 0))


def rate(loss: str, threshold: float, confidence: float, condition: str = "") -> str:
    """Return the formula P(loss <= threshold) >= confidence."""
    return f"P({loss} <= {threshold:.4g}{condition}) >= {_level(confidence)}"


def mean(loss: str, threshold: float, condition: str = "") -> str:
    """Return the formula E loss <= threshold."""
    expected = f"E[{loss}{condition}]" if " " in loss + condition else f"E {loss}"
    return f"{expected} <= {threshold:.4g}"


def with_probability(delta: float, claim: str) -> str:
    """Return the claim, for all but a share delta of calibration sets."""
    return f"with probability {_level(1 - delta)} over calibration sets, {claim}"


def _level(value: float) -> str:
    """Return a number with all of its decimals, at least two: 0.90, 0.999."""
    text = f"{value:.6g}"
    return text if len(text) > 3 else f"{value:.2f}"
