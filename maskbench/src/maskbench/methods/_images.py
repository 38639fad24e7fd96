"""Images of a task as methods need them."""

import numpy as np
import torch

from maskbench.triplets import Floats


def enlarged(x: Floats, y_hat: Floats) -> Floats:
    """Return x with the sides of y_hat, by bilinear interpolation; one channel stands for all of them."""
    planes = torch.from_numpy(np.ascontiguousarray(x)).movedim(3, 1)
    if planes.shape[2:] != y_hat.shape[1:3]:
        planes = torch.nn.functional.interpolate(planes, size=y_hat.shape[1:3], mode="bilinear")
    return planes.movedim(1, 3).numpy()
