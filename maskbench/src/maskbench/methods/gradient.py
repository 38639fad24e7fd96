"""The length of the gradient of y_hat, which needs no training."""

from pathlib import Path

import numpy as np

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.triplets import Floats, Maps, Triplets

TITLE, PAPER, IMAGES = "gradient of the output", "", 0


def fit(learn: Triplets, aim: Aim, work: Path) -> Score:
    """Return the mean over channels of the length of the gradient, by central differences."""

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        down, right = np.gradient(y_hat, axis=(1, 2))
        return np.sqrt(down**2 + right**2).mean(axis=3)

    return score
