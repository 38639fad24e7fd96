"""Triplets whose errors are known to have a scale, and folders of noisy pairs."""

import numpy as np

from conformask.images.read import write_image
from conformask.images.triplets import Triplets


def arrays(count, seed, size=(8, 8), channels=1):
    """x tells the scale of the error, up to a factor with a heavy tail for each image."""
    generator = np.random.default_rng(seed)
    scale = generator.uniform(0.01, 0.1, (count, *size, 1))
    factor = generator.lognormal(0, 0.7, (count, 1, 1, 1))
    y = generator.uniform(0.2, 0.8, (count, *size, channels))
    y_hat = (y + factor * scale * generator.standard_t(3, y.shape)).clip(0, 1)
    return [image.astype(np.float32) for image in (scale, y_hat, y)]


def triplets(count, seed, *shape, **more):
    return Triplets.from_arrays(*arrays(count, seed, *shape), **more)


def scale_of(x, y_hat):
    return x


def signed(a, b):
    """Not monotone: errors of both signs cancel until a mask closes some of them."""
    return (a - b).mean((1, 2, 3)).abs()


def noisy_pairs(folder, size, *, channels=1, factor=1):
    """A folder with three images y of this size, and x, which is noisy and so many times smaller."""
    generator = np.random.default_rng(0)
    for name in "abc":
        y = generator.uniform(0.2, 0.8, (channels, *size))
        x = y[:, ::factor, ::factor]
        x = (x + generator.normal(0, 0.05, x.shape)).clip(0, 1)
        for role, image in (("x", x), ("y", y)):
            write_image(folder / role / f"{name}.png", image.astype(np.float32))
    return folder
