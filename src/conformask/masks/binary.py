"""Masks of 0 and 1: what has a small score is shown."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arithmetic import per_image
from conformask.masks.curves import boundary_curve, of_each_image
from conformask.masks.kernels import NOISE, pairs, rounded_down
from conformask.masks.levels import KAPPA, check_kappa, rounded_down_in_graph, shares, shares_in_graph, spent
from conformask.masks.mask_family import Family
from conformask.masks.streaming_level import Total
from conformask.storage.as_arrays import Array
from conformask.storage.as_json import Json
from conformask.types import Images, PerImage


@dataclass(frozen=True)
class Binary(Family):
    """The mask [score < lam * mean(score)^kappa]: 1 where the score is below the level, else 0.

    The level is lam * mean(score)^kappa. At kappa = 0 it is lambda itself, in the units of the score.

    Raises:
        InvalidArgumentError: kappa is not in [-1, 1].
    """

    kappa: float = KAPPA
    name = "binary"

    def __post_init__(self) -> None:
        check_kappa(self.kappa)

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
        """Return the mask, with the shape of the score, float32, 0 or 1."""
        boundary = per_image(level[:, 0].to(score.device, torch.float32), score)
        return (score.float() < boundary).float()

    def critical_lambda(
        self, score: Images, error: Images, exponent: float, threshold: float
    ) -> Float[Tensor, "n"]:
        """Return sup{lam : mean(mask * error) <= threshold}, (N,) float64, exact: one sort of the scores.

        error = |y - y_hat|^p; the exponent does not matter, since 0 and 1 are their own powers.

        Raises:
            InvalidArgumentError: shapes differ, or a score, error or the threshold is negative or NaN.
        """
        levels = [_critical(s, e, threshold) for s, e in pairs(score, error, threshold)]
        return torch.from_numpy(np.array(levels, dtype=np.float64) / shares(score, self.kappa))

    def curve(
        self, score: Images, error: Images, exponent: float, lam: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """Return mean(mask * error) and mask size at ascending lambdas, each (N, G) float64.

        Raises:
            InvalidArgumentError: shapes differ, or a score or error is negative, NaN or infinite.
        """
        levels = self.level(score, torch.from_numpy(lam).expand(len(score), -1)).cpu().numpy()[..., 0]
        return of_each_image(
            score, error, levels, lambda s, e, edges: boundary_curve(s, e, edges, np.zeros_like(edges), 1.0)
        )

    def settings(self) -> dict[str, Json]:
        """Return name and kappa."""
        return {"name": self.name, "kappa": self.kappa}


def _critical(s: Array, e: Array, threshold: float) -> float:
    """Return the smallest score at which the error of all pixels up to it exceeds the threshold, or inf."""
    if threshold == 0:
        wrong = s[e > 0]
        return float(wrong.min()) if wrong.size else np.inf
    order = np.argsort(s, kind="stable")
    total = e[order].cumsum(dtype=np.float64)
    place = int(np.searchsorted(total, threshold * s.size * (1 + NOISE), side="right"))
    return float(s[order[place]]) if place < s.size else np.inf
