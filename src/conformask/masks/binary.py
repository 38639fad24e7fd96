"""Masks of 0 and 1: the pixels with the smallest scores are shown."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arithmetic import per_image
from conformask.errors import chosen
from conformask.masks.curves import boundary_curve, of_each_image
from conformask.masks.kernels import NOISE, pairs, selection
from conformask.masks.levels import KAPPA, check_kappa, shares
from conformask.masks.mask_family import Family
from conformask.masks.power import Power
from conformask.masks.streaming_level import StreamingLevel
from conformask.masks.trusted_mean import TrustedMean
from conformask.masks.water_filling import WaterFilling
from conformask.storage.as_arrays import Array
from conformask.storage.as_json import Json
from conformask.types import Images, PerImage

Bounded = Literal["largest", "total", "mean"]
FULL = 1 / (4 * NOISE)
"""A budget minus 1 / FULL of itself is spent where the sum of scores is the budget up to rounding."""


@dataclass(frozen=True)
class Binary(Family):
    """The mask [score < boundary]: 1 where the score is below the boundary of its image, else 0.

    The boundary is the largest at which the scores s that are shown stay below the budget lam *
    mean(score)^kappa, by what lambda bounds: "largest" the largest s, so that the boundary is the budget
    itself; "total" the sum of s over the number of all pixels; "mean" the mean of s over the shown pixels.
    For losses of the same form these are the best masks of a score that estimates the error. Pixels of equal
    score are shown or hidden together.

    Raises:
        InvalidArgumentError: kappa is not in [-1, 1], or `bounds` is none of the three.
    """

    bounds: Bounded = "total"
    kappa: float = KAPPA
    name = "binary"

    def __post_init__(self) -> None:
        chosen({name: name for name in get_args(Bounded)}, self.bounds, "bounds")
        check_kappa(self.kappa)

    @property
    def grey(self) -> Family:
        """The family of grey masks with this boundary; they have values between 0 and 1 at it or beyond."""
        if self.bounds == "largest":
            return Power(kappa=self.kappa)
        return WaterFilling(1.0, self.kappa) if self.bounds == "total" else TrustedMean(self.kappa)

    def level(self, score: Images, lam: Float[Tensor, "n *g"]) -> Float[Tensor, "n *g 1"]:
        """Return the boundary, (N, 1) or (N, G, 1), float32, on the score's device.

        Raises:
            InvalidArgumentError: a score is negative, NaN or infinite, or a lambda negative or NaN.
        """
        return self.grey.level(score, self._below(lam))[..., :1]

    def level_in_graph(self, score: Images, lam: PerImage) -> Float[Tensor, "n 1"]:
        """Return the boundary in operations that an ONNX graph has."""
        return self.grey.level_in_graph(score, self._below(lam))[:, :1]

    def streaming_level(self, lam: float, pixels: int) -> StreamingLevel:
        """Return the passes to the level of one image; its first number is the boundary."""
        below = self._below(torch.tensor(lam, dtype=torch.float64))
        return self.grey.streaming_level(float(below), pixels)

    def _below(self, lam: Tensor) -> Tensor:
        """Return a lambda that is smaller by more than rounding: pixels that spend all of it are hidden."""
        exact = lam.double()
        return exact if self.bounds == "largest" else torch.where(exact.isinf(), exact, exact - exact / FULL)

    def apply(self, score: Images, level: Float[Tensor, "n l"]) -> Images:
        """Return the mask, with the shape of the score, float32, 0 or 1."""
        boundary = per_image(level[:, 0].to(score.device, torch.float32), score)
        return (score.float() < boundary).float()

    def critical_lambda(
        self, score: Images, error: Images, exponent: float, threshold: float
    ) -> Float[Tensor, "n"]:
        """Return sup{lam : mean(mask * error) <= threshold}, (N,) float64, exact.

        error = |y - y_hat|^p; the exponent does not matter, since 0 and 1 are their own powers.

        Raises:
            InvalidArgumentError: shapes differ, or a score, error or the threshold is negative or NaN.
        """
        budgets = [self._critical(s, e, threshold) for s, e in pairs(score, error, threshold)]
        return torch.from_numpy(np.array(budgets, dtype=np.float64) / shares(score, self.kappa))

    def _critical(self, s: Array, e: Array, threshold: float) -> float:
        """Return the budget that shows up to the first score with which the error exceeds the threshold."""
        boundary, _, below, at = selection(s, e, threshold * s.size)
        if self.bounds == "largest" or np.isinf(boundary):
            return float(boundary)
        count = s.size if self.bounds == "total" else np.count_nonzero(s <= boundary)
        return float((below + at) / count)

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
        """Return name, what lambda bounds, and kappa."""
        return {"name": self.name, "bounds": self.bounds, "kappa": self.kappa}
