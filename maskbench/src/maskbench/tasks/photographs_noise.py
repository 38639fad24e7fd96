"""Photographs with noise of an unknown level, denoised by total variation."""

from pathlib import Path

import numpy as np
from skimage.restoration import denoise_tv_chambolle

from maskbench.tasks import Made
from maskbench.tasks._images import photographs

TITLE, NETWORK = "photographs, noise of any level", "total variation"
DEGRADATION, LICENCE, VERSION = "noise of sd 0.03 to 0.12", "research use", 1


def make(data: Path, work: Path) -> Made:
    """Yield the middles of half of the photographs."""
    generator = np.random.default_rng(1)
    for name, y in photographs(data, 0, 2):
        x = (y + generator.uniform(0.03, 0.12) * generator.standard_normal(y.shape)).clip(0, 1)
        yield name, x, denoise_tv_chambolle(x, 0.12, channel_axis=2), y, {}
