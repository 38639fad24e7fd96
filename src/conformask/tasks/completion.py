"""Completion: fill a cross-shaped hole in a grey image, as in the paper."""

import torch
from jaxtyping import Bool
from torch import Tensor

from conformask.tasks.colorization import luma
from conformask.types import Images

STRIPES = 8
"""Divisor of the side that gives the width of a stripe, 32 of 256 pixels in the paper."""


class Completion:
    """Task whose x is grey, with 0 in a middle vertical and a middle horizontal stripe; the rest is known."""

    name = "completion"

    def hole(self, height: int, width: int) -> Bool[Tensor, "h w"]:
        """Return True where pixels are missing."""
        return _stripe(height)[:, None] | _stripe(width)[None, :]

    def truth(self, image: Images) -> Images:
        """Return the image in grey (ITU-R 601).

        Raises:
            ImageError: neither 1 nor 3 channels.
        """
        return luma(image)

    def degrade(self, y: Images) -> Images:
        """Return the image y with 0 in the hole."""
        return y.masked_fill(self._hole_of(y), 0.0)

    def enlarge(self, x: Images) -> Images:
        """Return the input itself: it has the size of y."""
        return x

    def compose(self, x: Images, output: Images) -> Images:
        """Return the output, clipped to [0, 1], in the hole and x around it."""
        return torch.where(self._hole_of(x), output.clamp(0, 1), x)

    def _hole_of(self, images: Images) -> Bool[Tensor, "h w"]:
        return self.hole(*images.shape[-2:]).to(images.device)


def _stripe(side: int) -> Bool[Tensor, "side"]:
    width = max(1, side // STRIPES)
    start = (side - width) // 2
    place = torch.arange(side)
    return (place >= start) & (place < start + width)
