"""Sections of an electron microscope out of focus, and Richardson-Lucy deconvolution."""

from pathlib import Path

import numpy as np
from scipy.ndimage import convolve
from skimage.restoration import richardson_lucy

from maskbench.tasks import Made
from maskbench.tasks._images import sections, tiles

TITLE, NETWORK = "electron microscopy, out of focus", "Richardson-Lucy"
DEGRADATION, LICENCE, VERSION = "a disc of radius 3, noise of sd 0.01", "CC BY 4.0 (Gerhard et al. 2013)", 1
RADIUS, NOISE, ITERATIONS = 3, 0.01, 15


def make(data: Path, work: Path) -> Made:
    """Yield tiles of each section, with |A y_hat - x|, A the blur."""
    rows, columns = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    disc = (rows**2 + columns**2 <= RADIUS**2).astype(np.float64)
    disc /= disc.sum()
    for name, y, generator in sections(data):
        x = (convolve(y, disc, mode="reflect") + NOISE * generator.standard_normal(y.shape)).clip(0, 1)
        y_hat = richardson_lucy(x, disc, ITERATIONS).clip(0, 1)
        misfit = np.abs(convolve(y_hat, disc, mode="reflect") - x).astype(np.float32)
        for each, made, truth, cue in tiles(x, y_hat, y, misfit):
            yield name, each, made, truth, {"network": cue}
