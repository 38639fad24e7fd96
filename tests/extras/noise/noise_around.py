"""The allowance for noise by the pixels around, by scipy."""

import numpy as np
from scipy import ndimage


def by_noise_around(b, c, y_hat, inside=None):
    """The variance of each product (H, W) if the noise is that of the other pixels of 5 x 5 around it."""
    others, inside = np.ones((5, 5)), np.ones(b.shape) if inside is None else inside
    others[2, 2] = 0
    noise, count = (b - c) ** 2 / 4, ndimage.convolve(inside, others, mode="constant")

    def around(values):
        return ndimage.convolve(inside * values, others, mode="constant") / np.maximum(count, 1)

    v = around(noise)
    return 4 * ((b + c) / 2 - y_hat) ** 2 * v - 2 * v**2 + np.minimum(around(noise**2) - v**2, 2 * v**2)
