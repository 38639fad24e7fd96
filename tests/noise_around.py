"""The allowance for noise by the pixels around, by scipy."""

import numpy as np
from scipy import ndimage


def by_noise_around(b, c, y_hat, inside=None) -> np.ndarray:
    """The variance of each product (H, W) if the noise is that of the other pixels of 5 x 5 around it."""
    others, inside = np.ones((5, 5)), np.ones(b.shape) if inside is None else inside
    others[2, 2] = 0
    total, count = (
        ndimage.convolve(each, others, mode="constant") for each in (inside * (b - c) ** 2 / 4, inside)
    )
    return 4 * ((b + c) / 2 - y_hat) ** 2 * total / np.maximum(count, 1)
