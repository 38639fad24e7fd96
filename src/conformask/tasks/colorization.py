"""Colorization: recover the colours of a grey photograph, as in the paper."""

import torch

from conformask.errors import ImageError
from conformask.types import Images

ITU_601 = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma of ITU-R 601."""


class Colorization:
    """Task whose x is the luma of y, one channel; y has three."""

    name = "colorization"

    def truth(self, image: Images) -> Images:
        """Return the image itself.

        Raises:
            ImageError: other than three channels.
        """
        if image.shape[1] != 3:
            raise ImageError(
                f"images have {image.shape[1]} channels; colorization needs colour images, with 3 (RGB)"
            )
        return image

    def degrade(self, y: Images) -> Images:
        """Return the luma of y (ITU-R 601), (N, 1, H, W).

        Raises:
            ImageError: other than three channels.
        """
        return luma(self.truth(y))

    def enlarge(self, x: Images) -> Images:
        """Return the input itself: it has the size of y."""
        return x

    def compose(self, x: Images, output: Images) -> Images:
        """Return the output clipped to [0, 1]."""
        return output.clamp(0, 1)


def luma(image: Images) -> Images:
    """Return grey (N, 1, H, W) from RGB by ITU-R 601; grey images stay as they are.

    Raises:
        ImageError: neither 1 nor 3 channels.
    """
    channels = image.shape[1]
    if channels == 1:
        return image
    if channels != 3:
        raise ImageError(f"images have {channels} channels; grey is defined for 1 or 3")
    weights = torch.tensor(ITU_601, dtype=image.dtype, device=image.device)
    return (image * weights[:, None, None]).sum(1, keepdim=True).clamp(0, 1)
