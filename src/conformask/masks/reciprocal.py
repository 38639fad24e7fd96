"""The paper's family, eq. 8: min(1, lam / (epsilon + score))."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from conformask.masks.kernels import lambda_level
from conformask.masks.saturating import Saturating, check_epsilon
from conformask.storage.as_json import Json
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
        check_epsilon(self.epsilon)

    def level(self, score: Images, lam: Float[Tensor, "n *g"]) -> Float[Tensor, "n *g l"]:
        """lam, (N, 1) or (N, G, 1), float32 rounded down, on the score's device.

        Raises:
            InvalidArgumentError: a lambda is negative or NaN.
        """
        return lambda_level(score, lam)

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
        return self._shape.critical_lambda(score, error, exponent, threshold)

    def curve(
        self, score: Images, error: Images, exponent: float, lam: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """mean(mask^p * error) and mask size at ascending lambdas, each (N, G) float64.

        Raises:
            InvalidArgumentError: shapes differ, or a score or error is negative, NaN or infinite.
        """
        return self._shape.curve(score, error, exponent, np.tile(lam, (len(score), 1)))

    def settings(self) -> dict[str, Json]:
        """Name and epsilon."""
        return {"name": self.name, "epsilon": self.epsilon}

    @property
    def _shape(self) -> Saturating:
        return Saturating(self.epsilon, 1.0)
