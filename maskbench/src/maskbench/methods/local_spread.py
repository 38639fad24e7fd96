"""The standard deviation of y_hat around each pixel, which needs no training."""

from pathlib import Path

import numpy as np
from scipy.ndimage import uniform_filter

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.triplets import Floats, Maps, Triplets

TITLE, PAPER, IMAGES = "local spread of the output", "", 0
WINDOW = (0, 7, 7, 0)


def fit(learn: Triplets, aim: Aim, work: Path) -> Score:
    """Return the mean over channels of the standard deviation in windows of 7 x 7 pixels."""

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        means, squares = (uniform_filter(each.astype(np.float64), WINDOW) for each in (y_hat, y_hat**2))
        return np.sqrt((squares - means**2).clip(min=0)).mean(axis=3)

    return score
