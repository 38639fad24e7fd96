"""Conformal failure masks with their own risk control, which counts pixels and not images.

As in the paper's code, the pixels of all calibration images are pooled as if they were independent, so that
what is controlled is the mean over pixels of all images. Nothing is promised of a single image.
"""

from pathlib import Path

import numpy as np

from maskbench.aim import Aim
from maskbench.methods import Score, failure_net
from maskbench.triplets import Floats, Maps, Triplets

TITLE, PAPER, IMAGES = "failure masks, their own risk control", failure_net.PAPER, failure_net.IMAGES
LARGEST = 1.0
"""The largest error of a pixel."""


def controlled(score: Floats, errors: Floats, threshold: float) -> float:
    """Return the largest lambda with n / (n + 1) R + B / (n + 1) <= threshold.

    R is the mean over all n pixels of the errors whose score is below lambda, B the largest error.
    """
    order = np.argsort(score, axis=None, kind="stable")
    exceeds = (errors.ravel()[order].cumsum(dtype=np.float64) + LARGEST) / (score.size + 1) > threshold
    return float(score.ravel()[order[exceeds.argmax()]]) if exceeds.any() else np.inf


def masks(learn: Triplets, calibration: Triplets, aim: Aim, work: Path) -> Score:
    """Show the pixels whose score is below lambda; the network is that of `failure_net`."""
    folder = work.with_name("failure_net")
    folder.mkdir(exist_ok=True)
    score = failure_net.fit(learn, aim, folder)
    maps = score(calibration.x, calibration.y_hat, calibration.cues)
    lam = controlled(maps, calibration.errors, aim.threshold)

    def shown(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        return (score(x, y_hat, cues) < lam).astype(np.float32)

    return shown
