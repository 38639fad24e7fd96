"""All or nothing: 1 where the score is below lam, 0 elsewhere."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.masks.curves import step_curve
from conformask.masks.kernels import NOISE, lambda_level, pairs, rounded_up, selection
from conformask.results import Json
from conformask.types import Images


@dataclass(frozen=True)
class Threshold:
    """1 where score < lam, 0 elsewhere; the level is lam itself.

    The comparison is strict: with <= the masks would not be left-continuous, an image would fail at its own
    critical lambda, and images whose scores tie would break the promise.
    """

    name = "threshold"

    def level(self, score: Images, lam: Float[Tensor, "n *g"]) -> Float[Tensor, "n *g l"]:
        """lam, (N, 1) or (N, G, 1), float32 rounded up, on the score's device.

        A float32 score is below lam exactly if it is below lam rounded up, so the masks are those of the
        float64 lam and nothing opens that it would not.

        Raises:
            InvalidArgumentError: a lambda is negative or NaN.
        """
        return lambda_level(score, lam, rounded_up)

    def apply(self, score: Images, level: Float[Tensor, "n l"]) -> Images:
        """The mask, with the shape of the score, float32, 0 or 1; a score that is not finite is masked."""
        lam = level[:, 0, None, None, None].to(score.device, torch.float32)
        return (score.float() < lam).float()

    def critical_lambda(
        self, score: Images, error: Images, exponent: float, threshold: float
    ) -> Float[Tensor, "n"]:
        """sup{lam : mean(mask^p * error) <= threshold}, (N,) float64, exact; error = |y - y_hat|^p.

        The smallest score at which the error of the pixels up to and with it exceeds the budget, and inf if
        none does. The masks are 0 or 1, so p matters only through the error. Where the pixels of the
        smallest score already fail, it is that score, at which all is masked.

        Raises:
            InvalidArgumentError: shapes differ, or a score, error or the threshold is negative or NaN.
        """
        found = np.empty(len(score))
        for index, (s, e) in enumerate(pairs(score, error, threshold)):
            goals = np.array([threshold * s.size * (1 + NOISE)])  # a tie with the budget passes
            found[index] = selection(s, e, goals)[0, 0]
        return torch.from_numpy(found)

    def curve(
        self, score: Images, error: Images, exponent: float, lam: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """mean(mask^p * error) and mask size at ascending lambdas, each (N, G) float64.

        Raises:
            InvalidArgumentError: shapes differ, or a score or error is negative, NaN or infinite.
        """
        edges = rounded_up(lam)  # float32 like the scores
        curves = [step_curve(s, e, edges) for s, e in pairs(score, error, 0.0)]
        return np.stack([distance for distance, _ in curves]), np.stack([size for _, size in curves])

    def settings(self) -> dict[str, Json]:
        """The name; it has no parameters."""
        return {"name": self.name}
