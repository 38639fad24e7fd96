"""|y - y_hat|^p, for lp distances: the mask network of l1, whose score estimates |y - y_hat|, to the power p.

What that gives beside equation (6) with the distance itself is measured in docs/results/smaller-masks.md.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from conformask.distances.lp import Lp
from conformask.errors import InvalidArgumentError
from conformask.scorers.mask_network import MaskNetwork
from conformask.types import Images, PerImage

OF_L1 = MaskNetwork(Lp(1.0))
TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class ErrorNetwork(MaskNetwork):
    """Trained as the mask network of l1.

    Raises:
        InvalidArgumentError: the distance is not an lp distance.
    """

    name: ClassVar[str] = "error"

    def __post_init__(self) -> None:
        if self.distance.exponent is None:
            raise InvalidArgumentError(
                f"scorer 'error' is for l1, l2 and other lp distances, and {self.distance.name!r} is none: "
                "take scorer 'mask'"
            )

    def loss(self, output: Images, y: Images, y_hat: Images) -> PerImage:
        """Equation (6) with mu = 2 and l1."""
        return OF_L1.loss(output, y, y_hat)

    def score(self, output: Images) -> Images:
        """(1 - m)^p, in (0, 1]."""
        return super().score(output).pow(self.distance.exponent or 1.0).clamp(min=TINY)
