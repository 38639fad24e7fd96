"""Conversion of colour images to grey."""

import torch

from conformask.errors import ImageError
from conformask.types import Images

ITU_601 = (0.299, 0.587, 0.114)


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
