"""The paper's eq. 8, steeper and with less for hard images."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.errors import InvalidArgumentError
from conformask.masks.difficulty import KAPPA, check_kappa, shares, spent
from conformask.masks.kernels import lambda_level
from conformask.masks.saturating import Saturating, check_epsilon
from conformask.storage.as_json import Json
from conformask.types import Images

GENTLEST, STEEPEST = 0.1, 10.0


@dataclass(frozen=True)
class Power:
    """min(1, (lam * mean(score)^kappa / (epsilon + score))^gamma); gamma = 1 with kappa = 0 is `Reciprocal`.

    The level is lam * mean(score)^kappa. A large gamma comes near a threshold at epsilon + score = level, a
    small one dims all pixels alike. Choose gamma, kappa and epsilon on images outside the calibration set.
    Solutions are exact as long as ((epsilon + smallest score) / (epsilon + largest score))^(gamma p) is above
    1e-200; float32 masks of a flat score can exceed them by gamma * p * 1e-7 of the threshold.

    Raises:
        InvalidArgumentError: gamma is not in [0.1, 10], epsilon not finite and positive, or kappa not in
            [-1, 0].
    """

    gamma: float = 4.0
    epsilon: float = 1e-3
    kappa: float = KAPPA
    name = "power"

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        check_kappa(self.kappa)
        if not GENTLEST <= self.gamma <= STEEPEST:
            raise InvalidArgumentError(
                f"gamma: {self.gamma}; power takes {GENTLEST} to {STEEPEST} (beyond them powers of the score "
                "leave the range of floats)"
            )

    def level(self, score: Images, lam: Float[Tensor, "n *g"]) -> Float[Tensor, "n *g l"]:
        """lam * mean(score)^kappa, (N, 1) or (N, G, 1), float32 rounded down, on the score's device.

        Raises:
            InvalidArgumentError: a lambda is negative or NaN.
        """
        return lambda_level(score, spent(score, lam, self.kappa))

    def apply(self, score: Images, level: Float[Tensor, "n l"]) -> Images:
        """The mask, with the shape of the score, float32 in [0, 1]."""
        return self._shape.apply(score, level)

    def critical_lambda(
        self, score: Images, error: Images, exponent: float, threshold: float
    ) -> Float[Tensor, "n"]:
        """sup{lam : mean(mask^p * error) <= threshold}, (N,) float64, exact; error = |y - y_hat|^p.

        Raises:
            InvalidArgumentError: shapes differ, or a score, error or the threshold is negative or NaN.
        """
        found = self._shape.critical_lambda(score, error, exponent, threshold)
        return found / torch.from_numpy(shares(score, self.kappa))

    def curve(
        self, score: Images, error: Images, exponent: float, lam: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """mean(mask^p * error) and mask size at ascending lambdas, each (N, G) float64.

        Raises:
            InvalidArgumentError: shapes differ, or a score or error is negative, NaN or infinite.
        """
        return self._shape.curve(score, error, exponent, np.multiply.outer(shares(score, self.kappa), lam))

    def settings(self) -> dict[str, Json]:
        """Name, gamma, epsilon and kappa."""
        return {"name": self.name, "gamma": self.gamma, "epsilon": self.epsilon, "kappa": self.kappa}

    @property
    def _shape(self) -> Saturating:
        return Saturating(self.epsilon, self.gamma)
