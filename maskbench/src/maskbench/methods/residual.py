"""|x - y_hat|, what the network changed, which needs no training."""

from pathlib import Path

import numpy as np

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._images import enlarged
from maskbench.triplets import Floats, Maps, Triplets

TITLE, PAPER, IMAGES = "what the network changed", "", 0


def fit(learn: Triplets, aim: Aim, work: Path) -> Score:
    """Return the mean over channels of |x - y_hat|, x enlarged to the size of y_hat."""

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        return np.abs(enlarged(x, y_hat) - y_hat).mean(axis=3)

    return score
