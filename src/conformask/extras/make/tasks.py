"""Tasks of the paper: how x is made from a true image, and y_hat from a network's output."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from conformask.arrays import Images, Task
from conformask.errors import ImageError, chosen

STRIPES = 8
"""Divisor of the side that gives the width of a stripe, 32 of 256 pixels in the paper."""
ITU_601 = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma of ITU-R 601."""


class _Task:
    """What most tasks share: x has the size of y, and no pixel of y is known from it."""

    def enlarge(self, x: Images) -> Images:
        """Return the input itself."""
        return x

    def compose(self, x: Images, output: Images) -> Images:
        """Return the output clipped to [0, 1]."""
        return output.clamp(0, 1)


class Completion(_Task):
    """Task whose x is grey, with 0 in a middle vertical and a middle horizontal stripe; the rest is known."""

    name = "completion"

    def hole(self, height: int, width: int) -> Bool[Tensor, "h w"]:
        """Return True where pixels are missing."""
        return _stripe(height)[:, None] | _stripe(width)[None, :]

    def truth(self, image: Images) -> Images:
        """Return the image in grey (ITU-R 601)."""
        return luma(image)

    def degrade(self, y: Images) -> Images:
        """Return the image y with 0 in the hole."""
        return y.masked_fill(self._hole_of(y), 0.0)

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


class SuperResolution(_Task):
    """Task whose x is y made four times smaller along each side, by averaging 4x4 pixels."""

    name = "super_resolution"
    scale = 4

    def truth(self, image: Images) -> Images:
        """Return the image itself."""
        height, width = image.shape[-2:]
        if height % self.scale or width % self.scale:
            divisible = max(self.scale, min(height, width) // self.scale * self.scale)
            raise ImageError(
                f"images are {height} x {width} pixels; super_resolution needs sides that are divisible by "
                f"{self.scale}: use --size {divisible}"
            )
        return image

    def degrade(self, y: Images) -> Images:
        """Return the mean of each 4x4 pixels of y, (N, C, H/4, W/4)."""
        return F.avg_pool2d(self.truth(y), self.scale)

    def enlarge(self, x: Images) -> Images:
        """Return the input four times larger, by bicubic interpolation, clipped to [0, 1]."""
        return F.interpolate(x, scale_factor=self.scale, mode="bicubic", align_corners=False).clamp(0, 1)


class Colorization(_Task):
    """Task whose x is the luma of y, one channel; y has three."""

    name = "colorization"

    def truth(self, image: Images) -> Images:
        """Return the image itself."""
        if image.shape[1] != 3:
            raise ImageError(
                f"images have {image.shape[1]} channels; colorization needs colour images, with 3 (RGB)"
            )
        return image

    def degrade(self, y: Images) -> Images:
        """Return the luma of y (ITU-R 601), (N, 1, H, W)."""
        return luma(self.truth(y))


def luma(image: Images) -> Images:
    """Return grey (N, 1, H, W) from RGB by ITU-R 601; grey images stay as they are."""
    channels = image.shape[1]
    if channels == 1:
        return image
    if channels != 3:
        raise ImageError(f"images have {channels} channels; grey is defined for 1 or 3")
    weights = torch.tensor(ITU_601, dtype=image.dtype, device=image.device)
    return (image * weights[:, None, None]).sum(1, keepdim=True).clamp(0, 1)


TASKS: Mapping[str, Callable[[], Task]] = {
    "completion": Completion,
    "super_resolution": SuperResolution,
    "colorization": Colorization,
}


def task(name: str) -> Task:
    """Return the task with this name."""
    return chosen(TASKS, name, "task")()
