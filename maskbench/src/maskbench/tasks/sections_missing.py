"""Sections of an electron microscope of which three pixels of four are lost, and cubic interpolation."""

from pathlib import Path

import numpy as np
from scipy.interpolate import griddata
from scipy.ndimage import distance_transform_edt

from maskbench.tasks import Made
from maskbench.tasks._images import sections, tiles

TITLE, NETWORK = "electron microscopy, missing pixels", "cubic interpolation"
DEGRADATION, LICENCE, VERSION = "a quarter of the pixels is known", "CC BY 4.0 (Gerhard et al. 2013)", 1
KNOWN = 0.25


def make(data: Path, work: Path) -> Made:
    """Yield tiles of each section, with the distance to the nearest known pixel."""
    for name, y, generator in sections(data):
        known = generator.random(y.shape) < KNOWN
        points, everywhere = np.argwhere(known), tuple(np.mgrid[: y.shape[0], : y.shape[1]])
        y_hat, nearest = (griddata(points, y[known], everywhere, method=how) for how in ("cubic", "nearest"))
        y_hat = np.where(np.isnan(y_hat), nearest, y_hat).clip(0, 1)
        distance = distance_transform_edt(~known).astype(np.float32)
        for x, made, truth, cue in tiles(np.where(known, y, 0), y_hat, y, distance):
            yield name, x, made, truth, {"network": cue}
