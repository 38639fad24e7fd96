"""What reciprocal and power share: the masks min(1, (lam / (epsilon + score))^gamma)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.errors import InvalidArgumentError
from conformask.masks.curves import saturating_curve
from conformask.masks.kernels import full_below, pairs
from conformask.types import Images


def check_epsilon(epsilon: float) -> None:
    """Refuse what would divide by 0.

    Raises:
        InvalidArgumentError: epsilon is not finite and positive.
    """
    if not 0 < epsilon < math.inf:
        raise InvalidArgumentError(f"epsilon: {epsilon}; it must be finite and above 0, such as 1e-3")


@dataclass(frozen=True)
class Saturating:
    """min(1, (lam / (epsilon + score))^gamma): a pixel is full from lam = epsilon + score on."""

    epsilon: float
    gamma: float

    def apply(self, score: Images, level: Float[Tensor, "n l"]) -> Images:
        """The mask at level lam, with the shape of the score, float32 in [0, 1]."""
        lam = level[:, 0, None, None, None].to(score.device, torch.float32)
        share = (lam / (self.epsilon + score.float())).clamp(max=1)
        return share if self.gamma == 1 else share**self.gamma

    def critical_lambda(
        self, score: Images, error: Images, exponent: float, threshold: float
    ) -> Float[Tensor, "n"]:
        """sup{lam : mean(mask^p * error) <= threshold}, (N,) float64.

        The curve is concave and piecewise linear in lam^(gamma p), with the pixel full at (epsilon +
        score)^(gamma p).
        """
        found = np.empty(len(score))
        for index, (s, e) in enumerate(pairs(score, error, threshold)):
            goals = np.array([threshold * s.size])
            (found[index],) = full_below(s, e, self.epsilon, self.gamma * exponent, goals)
        return torch.from_numpy(found)

    def curve(
        self, score: Images, error: Images, exponent: float, lam: Float[np.ndarray, "n g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """mean(mask^p * error) and mask size at each image's ascending lambdas, each (N, G) float64."""
        curves = [
            saturating_curve(s.astype(np.float64) + self.epsilon, e, edges, self.gamma, exponent)
            for (s, e), edges in zip(pairs(score, error, 0.0), lam, strict=True)
        ]
        return np.stack([distance for distance, _ in curves]), np.stack([size for _, size in curves])
