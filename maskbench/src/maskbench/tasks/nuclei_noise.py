"""Nuclei in fluorescence with white noise, denoised by total variation."""

from pathlib import Path

import numpy as np
from skimage.restoration import denoise_tv_chambolle

from maskbench.tasks import Made
from maskbench.tasks._images import middle, read

TITLE, NETWORK = "nuclei, white noise", "total variation"
DEGRADATION, LICENCE, VERSION = "noise of sd 0.1", "CC0 (BBBC038)", 1
NOISE, STRENGTH = 0.1, 0.1


def make(data: Path, work: Path) -> Made:
    """Yield the middle of each field."""
    generator = np.random.default_rng(0)
    for path in sorted((data / "nuclei").glob("*.png")):
        y = middle(read(path, "L"))
        x = (y + NOISE * generator.standard_normal(y.shape)).clip(0, 1)
        yield path.stem, x, denoise_tv_chambolle(x, STRENGTH), y, {}
