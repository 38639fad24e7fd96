"""Streams of images whose population drifts: adaptive conformal inference (Gibbs and Candes 2021)."""

import math
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from conformask.conformal.order import ROUNDING
from conformask.errors import InvalidArgumentError
from conformask.storage.as_json import Json, number


@dataclass
class OnlineLambda:
    """The current lambda: the gamma-quantile of past critical lambdas, gamma moved by every failure.

    On any sequence of T images, the mean number of failures is at most
    1 - confidence + (gamma_1 + eta * confidence) / (eta * T), wider by the delay of the truth.

    Raises:
        InvalidArgumentError: confidence or eta outside (0, 1).
    """

    confidence: float
    eta: float = 0.05
    """The step by which one failure moves gamma."""
    gamma: float | None = None
    """The level of the quantile; None starts at 1 - confidence."""
    past: list[float] = field(default_factory=list)
    """Critical lambdas, ascending; initially those of the calibration images."""

    def __post_init__(self) -> None:
        for name in ("confidence", "eta"):
            if not 0 < getattr(self, name) < 1:
                raise InvalidArgumentError(f"{name} = {getattr(self, name):g}: must be between 0 and 1")
        self.past = sorted(self.past)
        self.gamma = 1 - self.confidence if self.gamma is None else self.gamma

    @property
    def level(self) -> float:
        """The level of the quantile, gamma."""
        return 1 - self.confidence if self.gamma is None else self.gamma

    @property
    def lam(self) -> float:
        """The lambda for the next image; 0 where gamma is not above 0, or nothing is known yet."""
        if self.level <= 0 or not self.past:
            return 0.0
        rank = math.ceil(min(self.level, 1.0) * len(self.past) - ROUNDING)
        return self.past[max(rank, 1) - 1]

    def learn(self, critical_lambda: float, *, failed: bool) -> None:
        """Learn from an image whose truth is now known: its critical lambda, and whether its mask failed.

        gamma is capped at 1 first; otherwise it would grow while all is well and recover slowly after a
        shift.
        """
        self.gamma = min(self.level, 1.0) + self.eta * (1 - self.confidence - failed)
        insort(self.past, critical_lambda)

    def bound(self, images: int, start: float | None = None) -> float:
        """Return the largest mean number of failures on any sequence of this many images."""
        start_level = 1 - self.confidence if start is None else start
        return 1 - self.confidence + (start_level + self.eta * self.confidence) / (self.eta * images)

    def to_json(self) -> dict[str, Json]:
        """Return the whole state as JSON."""
        return {**vars(self), "past": list(self.past)}

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "OnlineLambda":
        """Read the state that to_json wrote."""
        past: Sequence[Json] = record["past"]
        return cls(
            float(record["confidence"]), float(record["eta"]), float(record["gamma"]), list(map(number, past))
        )
