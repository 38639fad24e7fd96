import numpy as np

from conformask.images.read import write_image


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
