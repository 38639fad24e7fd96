"""Photographs with the noise of a camera, and Open Image Denoise, which takes it for texture."""

from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter

from maskbench.tasks import Made
from maskbench.tasks._images import cut, read
from maskbench.tasks._networks import PHOTOGRAPHS, kept, package, photographs_of_camera
from maskbench.triplets import Floats

TITLE, NETWORK = "photographs, noise of a camera", "Open Image Denoise"
DEGRADATION, LICENCE, VERSION = "real", PHOTOGRAPHS, 1
GAMMA, WINDOW, STEP = 2.2, 9, 128


def make(data: Path, work: Path) -> Made:
    """Yield tiles of each photograph, with the standard deviation of what was removed around each pixel."""
    denoise = package("pyoidn").denoise
    for scene, path in photographs_of_camera(data):
        x, y = read(path.with_name(path.name.replace("clean", "noisy")), "RGB"), read(path, "RGB")

        def denoised(x: Floats = x) -> Floats:
            made: Floats = denoise(x**GAMMA).clip(0, 1) ** (1 / GAMMA)
            return made

        y_hat = kept(work / "outputs" / "camera_noise" / f"{path.stem}.npy", denoised)
        yield from cut(scene, x, y_hat, y, local_deviation((x - y_hat).mean(axis=2)), STEP)


def local_deviation(image: Floats) -> Floats:
    """Return the standard deviation in a window around each pixel."""
    mean, square = (uniform_filter(each.astype(np.float64), WINDOW) for each in (image, image**2))
    return np.sqrt((square - mean**2).clip(min=0))
