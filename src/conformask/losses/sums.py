"""Losses that are sums over pixels, which the exact kernels solve."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conformask.arithmetic import image_means
from conformask.types import Images, PerImage


@dataclass(frozen=True)
class Sums:
    """The loss mean(mask^exponent * error) on given images, divided by mean(mask * shown) if that is given.

    error and shown are float32 with the channels of the masks. Where nothing is shown the loss is 0.
    """

    error: Images
    exponent: float = 1.0
    shown: Images | None = None

    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask, float64.

        The difference of masked float32 images would lose the last digits of small errors, which decide
        whether an exact solution is within the threshold.
        """
        opened = mask.double()
        powered = opened if self.exponent == 1 else opened**self.exponent
        total = image_means(powered * self.error.double())
        if self.shown is None:
            return total
        shown = image_means(opened * self.shown.double())
        return torch.where(shown > 0, total / torch.where(shown > 0, shown, 1.0), 0.0)

    def take(self, places: Tensor) -> "Sums":
        """Return the loss on the images at these places."""
        shown = None if self.shown is None else self.shown[places]
        return replace(self, error=self.error[places], shown=shown)
