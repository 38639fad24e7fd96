"""The base class of families of masks: what a family owes, and defaults for what its masks alone decide."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from conformask.arithmetic import image_means
from conformask.errors import MismatchError
from conformask.masks.streaming_level import StreamingLevel
from conformask.storage.as_json import Json
from conformask.types import Images, PerImage

SMALLEST, LARGEST = 1e-36, 1e36
"""Limits of lambdas: float32 holds them with their margin, and any scores worth distinguishing."""
HALVINGS = 28
"""Number of bisections of [log SMALLEST, log LARGEST], to one part in 10^6 of lambda."""


def largest_lambda(
    passes: Callable[[Float[Tensor, "n"]], Bool[Tensor, "n"]], n: int, device: torch.device
) -> Float[Tensor, "n"]:
    """Return the largest lambda of each image that passes, from below, to one part in 10^6; float64.

    passes(lambdas) says of each image whether it passes; it is called HALVINGS + 2 times. The result is inf
    where an image passes unmasked, 0 where it fails at the smallest lambda.
    """
    low, high = (
        torch.full((n,), math.log(end), dtype=torch.float64, device=device) for end in (SMALLEST, LARGEST)
    )
    infeasible, unmasked = ~passes(low.exp()), passes(torch.full_like(low, math.inf))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        passed = passes(middle.exp())
        low, high = torch.where(passed, middle, low), torch.where(passed, high, middle)
    return low.exp().masked_fill(infeasible, 0.0).masked_fill(unmasked, math.inf)


class Family(ABC):
    """A nested family of masks F(score; lam): 0 at lam = 0, 1 at lam = inf, never shrinking in between.

    lam has shape (N,) or (N, G); the level holds a few numbers for each image and lambda. A family of your
    own needs a name, `level` and `apply`; an exact formula replaces the bisection of `critical_lambda`.
    """

    name: str
    """The family's name."""

    @property
    def degree(self) -> float:
        """The power of a factor on the score by which lambda has to grow to leave a mask as it is."""
        return 1.0 - getattr(self, "kappa", 0.0)

    @abstractmethod
    def level(self, score: Images, lam: Float[Tensor, "n *g"]) -> Float[Tensor, "n *g l"]:
        """Compute the level that apply needs from the whole image: (N, L), or (N, G, L)."""

    @abstractmethod
    def apply(self, score: Images, level: Float[Tensor, "n l"]) -> Images:
        """Compute the mask, pixel by pixel, with the shape of the score; in [0, 1]."""

    def critical_lambda(
        self, score: Images, error: Images, exponent: float, threshold: float
    ) -> Float[Tensor, "n"]:
        """Return sup{lam : mean(F(score; l)^p * error) <= threshold for all l <= lam}, (N,) float64.

        error is |y - y_hat|^p with the shape of the score (averaged over channels for a one-channel score).
        The result is +inf where the image passes unmasked, 0 where it fails for every lam > 0. The default is
        found by bisection, from below.
        """

        def passes(lambdas: Float[Tensor, "n"]) -> Tensor:
            mask = self.apply(score, self.level(score, lambdas)).double()
            return image_means(mask**exponent * error) <= threshold

        return largest_lambda(passes, len(score), score.device)

    def curve(
        self, score: Images, error: Images, exponent: float, lam: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """Return mean(F(score; lam)^p * error) and mask size at ascending lambdas from 0 to inf, float64."""
        columns = []
        for value in lam:
            lambdas = torch.full((len(score),), value, dtype=torch.float64, device=score.device)
            mask = self.apply(score, self.level(score, lambdas)).double()
            columns.append(torch.stack((image_means(mask**exponent * error), 1 - image_means(mask))))
        losses, sizes = torch.stack(columns, dim=2).cpu().numpy()
        return losses, sizes

    def settings(self) -> dict[str, Json]:
        """Return the family's parameters as JSON, including its name."""
        return {"name": self.name}

    def level_in_graph(self, score: Images, lam: PerImage) -> Float[Tensor, "n l"]:
        """Return the level in operations that an ONNX graph has.

        Raises:
            MismatchError: the family is the user's own and has no such method.
        """
        raise MismatchError(
            f"your own family {self.name!r} needs a method level_in_graph(score, lam), which computes its "
            "level in operations of an ONNX graph"
        )

    def streaming_level(self, lam: float, pixels: int) -> StreamingLevel:
        """Return the level of one image before the first pass over the parts of its score.

        Raises:
            MismatchError: the family is the user's own and has no such method.
        """
        raise MismatchError(
            f"your own family {self.name!r} needs a method streaming_level(lam, pixels), which computes its "
            "level by sums over the blocks of an image"
        )


def refuse_unrelated(family: Family) -> None:
    """Refuse an object that calibration takes for a family, but that may lack the methods of `Family`.

    Raises:
        MismatchError: its class does not inherit from Family.
    """
    if not isinstance(family, Family):
        raise MismatchError(
            f"your own family {family.name!r} has to inherit from conformask.masks.mask_family.Family, which "
            "describes the method that is needed here"
        )
