"""Images of a task as methods need them."""

import numpy as np
import torch

from maskbench.triplets import Floats


def planes(images: Floats) -> torch.Tensor:
    """Return images (n, H, W, C) as a tensor (n, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(images)).movedim(3, 1).float()


def enlarged(x: Floats, y_hat: Floats) -> Floats:
    """Return x with the sides of y_hat, by bilinear interpolation; one channel stands for all of them."""
    images = planes(x)
    if images.shape[2:] != y_hat.shape[1:3]:
        images = torch.nn.functional.interpolate(images, size=y_hat.shape[1:3], mode="bilinear")
    return images.movedim(1, 3).numpy()
