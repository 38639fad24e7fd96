"""The paper's family, eq. 8: min(1, lam / (epsilon + score))."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.errors import InvalidArgumentError
from conformask.masks.curves import saturating_curve
from conformask.masks.kernels import full_below, lambdas, pairs, rounded_down
from conformask.results import Json
from conformask.types import Images


@dataclass(frozen=True)
class Reciprocal:
    """min(1, lam / (epsilon + score)), eq. 8 of the paper; the level is lam itself.

    Raises:
        InvalidArgumentError: epsilon is not finite and positive.
    """

    epsilon: float = 1e-3
    name = "reciprocal"

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < math.inf:
            raise InvalidArgumentError(
                f"epsilon: {self.epsilon}; it must be finite and above 0, such as 1e-3"
            )

    def level(self, score: Images, lam: Float[Tensor, "n *g"]) -> Float[Tensor, "n *g l"]:
        """lam, (N, 1) or (N, G, 1), float32 rounded down, on the score's device.

        Raises:
            InvalidArgumentError: a lambda is negative or NaN.
        """
        values = rounded_down(lambdas(lam, len(score)))
        return torch.from_numpy(values).reshape(*lam.shape, 1).to(score.device)

    def apply(self, score: Images, level: Float[Tensor, "n l"]) -> Images:
        """The mask, with the shape of the score, float32 in [0, 1]."""
        lam = level[:, 0, None, None, None].to(score.device, torch.float32)
        return (lam / (self.epsilon + score.float())).clamp(max=1)

    def critical_lambda(
        self, score: Images, error: Images, exponent: float, threshold: float
    ) -> Float[Tensor, "n"]:
        """sup{lam : mean(mask^p * error) <= threshold}, (N,) float64, exact; error = |y - y_hat|^p.

        The curve is concave and piecewise linear in lam^p, with the pixel full at (epsilon + score)^p.

        Raises:
            InvalidArgumentError: shapes differ, or a score, error or the threshold is negative or NaN.
        """
        found = np.empty(len(score))
        for index, (s, e) in enumerate(pairs(score, error, threshold)):
            goals = np.array([threshold * s.size])
            (found[index],) = full_below(s, e, self.epsilon, exponent, goals)
        return torch.from_numpy(found)

    def curve(
        self, score: Images, error: Images, exponent: float, lam: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """mean(mask^p * error) and mask size at ascending lambdas, each (N, G) float64."""
        curves = [
            saturating_curve(s.astype(np.float64) + self.epsilon, e, lam, 1.0, exponent)
            for s, e in pairs(score, error, 0.0)
        ]
        return np.stack([distance for distance, _ in curves]), np.stack([size for _, size in curves])

    def settings(self) -> dict[str, Json]:
        """Name and epsilon."""
        return {"name": self.name, "epsilon": self.epsilon}
