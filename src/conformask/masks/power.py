"""The paper's family of masks, eq. 8, and the same with a steeper fall and less budget for hard images."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arithmetic import per_image
from conformask.errors import InvalidArgumentError
from conformask.masks.curves import of_each_image, saturating_curve
from conformask.masks.kernels import full_below, pairs, rounded_down
from conformask.masks.levels import KAPPA, check_kappa, rounded_down_in_graph, shares, shares_in_graph, spent
from conformask.masks.mask_family import Family
from conformask.masks.streaming_level import Total
from conformask.storage.as_json import Json
from conformask.types import Images, PerImage

GENTLEST, STEEPEST = 0.1, 10.0
"""Limits of gamma: beyond them powers of the score leave the range of floats."""


@dataclass(frozen=True)
class Power(Family):
    """The mask min(1, (lam * mean(score)^kappa / (epsilon + score))^gamma); `Reciprocal` at gamma 1, kappa 0.

    The level is lam * mean(score)^kappa. A large gamma comes near a threshold at epsilon + score = level, a
    small one dims all pixels alike. Choose gamma, kappa and epsilon on images outside the calibration set.
    Solutions are exact as long as ((epsilon + smallest score) / (epsilon + largest score))^(gamma p) is above
    1e-200; float32 masks of a flat score can exceed them by gamma * p * 1e-7 of the threshold.

    Raises:
        InvalidArgumentError: gamma is not in [0.1, 10], epsilon not finite and positive, or kappa not in
            [-1, 1].
    """

    gamma: float = 4.0
    epsilon: float = 1e-3
    kappa: float = KAPPA
    name = "power"

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < math.inf:
            raise InvalidArgumentError(
                f"epsilon: {self.epsilon}; it must be finite and above 0, such as 1e-3"
            )
        check_kappa(self.kappa)
        if not GENTLEST <= self.gamma <= STEEPEST:
            raise InvalidArgumentError(
                f"gamma: {self.gamma}; {self.name} takes {GENTLEST} to {STEEPEST} (beyond these limits, "
                "powers of the score leave the range of floats)"
            )

    def level(self, score: Images, lam: Float[Tensor, "n *g"]) -> Float[Tensor, "n *g l"]:
        """Return lam * mean(score)^kappa, (N, 1) or (N, G, 1), float32 rounded down, on the score's device.

        Raises:
            InvalidArgumentError: a lambda is negative or NaN.
        """
        levels = rounded_down(spent(score, lam, self.kappa))
        return torch.from_numpy(levels).reshape(*lam.shape, 1).to(score.device)

    def level_in_graph(self, score: Images, lam: PerImage) -> Float[Tensor, "n l"]:
        """Return the level in operations that an ONNX graph has."""
        return rounded_down_in_graph(lam * shares_in_graph(score, self.kappa))[:, None]

    def streaming_level(self, lam: float, pixels: int) -> Total:
        """Return the pass to the level of one image, from the sum of its score."""
        return Total(lam, self.kappa, pixels)

    def apply(self, score: Images, level: Float[Tensor, "n l"]) -> Images:
        """Return the mask, with the shape of the score, float32 in [0, 1]."""
        lam = per_image(level[:, 0].to(score.device, torch.float32), score)
        share = (lam / (self.epsilon + score.float())).clamp(max=1)
        return share if self.gamma == 1 else share**self.gamma  # no pass for a power of 1

    def critical_lambda(
        self, score: Images, error: Images, exponent: float, threshold: float
    ) -> Float[Tensor, "n"]:
        """Return sup{lam : mean(mask^p * error) <= threshold}, (N,) float64, exact.

        error = |y - y_hat|^p. The curve is concave and piecewise linear in lam^(gamma p), with the pixel full
        at (epsilon + score)^(gamma p).

        Raises:
            InvalidArgumentError: shapes differ, or a score, error or the threshold is negative or NaN.
        """
        levels = np.empty(len(score))
        for index, (s, e) in enumerate(pairs(score, error, threshold)):
            goals = np.array([threshold * s.size])
            (levels[index],) = full_below(s, e, self.epsilon, self.gamma * exponent, goals)
        return torch.from_numpy(levels / shares(score, self.kappa))

    def curve(
        self, score: Images, error: Images, exponent: float, lam: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """Return mean(mask^p * error) and mask size at ascending lambdas, each (N, G) float64.

        Raises:
            InvalidArgumentError: shapes differ, or a score or error is negative, NaN or infinite.
        """
        levels = np.multiply.outer(shares(score, self.kappa), lam)
        return of_each_image(
            score,
            error,
            levels,
            lambda s, e, edges: saturating_curve(s + self.epsilon, e, edges, self.gamma, exponent),
        )

    def settings(self) -> dict[str, Json]:
        """Return name, gamma, epsilon and kappa."""
        return {"name": self.name, "gamma": self.gamma, "epsilon": self.epsilon, "kappa": self.kappa}


@dataclass(frozen=True)
class Reciprocal(Power):
    """The mask min(1, lam / (epsilon + score)), eq. 8 of the paper: `Power` with gamma = 1 and kappa = 0.

    It has its own name because records hold it; one lambda then stands for the same budget in every image.

    Raises:
        InvalidArgumentError: epsilon is not finite and positive.
    """

    gamma: float = field(default=1.0, init=False)
    kappa: float = field(default=0.0, init=False)
    name = "reciprocal"

    def settings(self) -> dict[str, Json]:
        """Return name and epsilon."""
        return {"name": self.name, "epsilon": self.epsilon}
