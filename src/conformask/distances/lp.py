"""Lp distances, mean |a - b|^p over an image: l1, l2, and any other p >= 1."""

import math
from dataclasses import dataclass

import torch

from conformask.arithmetic import image_means
from conformask.errors import InvalidArgumentError
from conformask.names import DISTANCES
from conformask.types import Images, PerImage


@dataclass(frozen=True)
class Lp:
    """The paper's p-norm to the power p, divided by the number of values; summed in float64.

    Images in [0, 1] are at most 1 apart. Monotone: the smaller the mask, the smaller the distance.

    Raises:
        InvalidArgumentError: p < 1, for which (P1) is not convex, or infinite.
    """

    p: float
    monotone = True
    upper_bound = DISTANCES["l1"].upper_bound

    def __post_init__(self) -> None:
        if not 1 <= self.p < math.inf:
            raise InvalidArgumentError(f"p = {self.p}: an lp distance needs p >= 1, and finite")

    @property
    def name(self) -> str:
        """The name: l1, l2, or l with the whole exponent, as `distance` reads it."""
        return f"l{float(self.p)!r}".removesuffix(".0")

    @property
    def exponent(self) -> float:
        """The exponent p."""
        return self.p

    def __call__(self, a: Images, b: Images) -> PerImage:
        """Compute mean |a - b|^p, float64, shape (N,); its gradient is finite where a = b."""
        return image_means(self.error_map(a, b), torch.float64)

    def furthest(self, y_hat: Images) -> Images:
        """Return the largest error that any y in [0, 1] could give, max(y_hat, 1 - y_hat)^p."""
        return torch.maximum(y_hat, 1 - y_hat).clamp(0, 1).pow(self.p)

    def error_map(self, y: Images, y_hat: Images) -> Images:
        """Return |y - y_hat|^p."""
        return (y - y_hat).abs().pow(self.p)
