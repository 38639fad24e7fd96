"""What masks have to keep: the loss, its threshold, and the confidence of the promise."""

from dataclasses import dataclass

import numpy as np

from maskbench.triplets import Floats, Triplets

CONFIDENCE = 0.9
QUANTILE = 0.1
"""The threshold is this quantile of the losses without a mask, over the images to learn from."""


@dataclass(frozen=True)
class Aim:
    """P(mean over all pixels of m |y - y_hat| <= threshold) >= confidence, m the mask of a new image."""

    threshold: float
    confidence: float = CONFIDENCE

    @classmethod
    def of(cls, learn: Triplets) -> "Aim":
        """Return the aim of a task."""
        return cls(float(np.quantile(unmasked_losses(learn), QUANTILE)))


def unmasked_losses(triplets: Triplets) -> Floats:
    """Return the mean error of each image, (n,)."""
    losses: Floats = triplets.errors.mean(axis=(1, 2))
    return losses
