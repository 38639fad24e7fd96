"""Completion: fill a cross-shaped hole in a grey image, as in the paper."""

import torch
from jaxtyping import Bool
from torch import Tensor

from conformask.tasks.luma import luma
from conformask.types import Images

STRIPES = 8
"""A stripe is this part of the side, 32 of 256 pixels in the paper."""


class Completion:
    """x is grey, with 0 in a middle vertical and a middle horizontal stripe; the rest of x is known."""

    name = "completion"

    def hole(self, height: int, width: int) -> Bool[Tensor, "h w"]:
        """True where pixels are missing."""
        return _stripe(height)[:, None] | _stripe(width)[None, :]

    def truth(self, image: Images) -> Images:
        """The image in grey (ITU-R 601).

        Raises:
            ImageError: neither 1 nor 3 channels.
        """
        return luma(image)

    def degrade(self, y: Images) -> Images:
        """The image y with 0 in the hole."""
        return y.masked_fill(self._hole_of(y), 0.0)

    def enlarge(self, x: Images) -> Images:
        """The input itself: it has the size of y."""
        return x

    def compose(self, x: Images, output: Images) -> Images:
        """The output in the hole, x around it."""
        return torch.where(self._hole_of(x), output.clamp(0, 1), x)

    def _hole_of(self, images: Images) -> Bool[Tensor, "h w"]:
        return self.hole(*images.shape[-2:]).to(images.device)


def _stripe(side: int) -> Bool[Tensor, "side"]:
    width = max(1, side // STRIPES)
    start = (side - width) // 2
    place = torch.arange(side)
    return (place >= start) & (place < start + width)
