"""Photographs enlarged four times by bicubic interpolation."""

from pathlib import Path

import numpy as np
from PIL import Image

from maskbench.tasks import Made
from maskbench.tasks._images import SIDE, photographs
from maskbench.triplets import as_bytes

TITLE, NETWORK = "photographs, a quarter of the side", "bicubic interpolation"
DEGRADATION, LICENCE, VERSION = "means of 4 x 4 pixels", "research use", 1
FACTOR = 4


def make(data: Path, work: Path) -> Made:
    """Yield the middles of half of the photographs."""
    for name, y in photographs(data, 1, 2):
        small = Image.fromarray(as_bytes(y)).resize((SIDE // FACTOR,) * 2, Image.Resampling.BOX)
        large = small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        x, y_hat = (np.asarray(each, np.float32) / 255 for each in (small, large))
        yield name, x, y_hat, y, {}
