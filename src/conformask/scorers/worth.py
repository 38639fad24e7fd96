"""What a trained score is worth: its masks on selection images beside those of scores that learn nothing."""

import warnings

import numpy as np
import torch

from conformask.calibration import NO_GRID, critical_lambdas, lambda_grid, mean_size
from conformask.conformal.order import marginal_rank, smallest, smallest_marginal_set
from conformask.data.triplets import Triplets
from conformask.records.curves import Worth
from conformask.scorers.heuristic import Heuristic
from conformask.scorers.scoring import scored
from conformask.scorers.spread import local_spread
from conformask.types import Family, Images, Loss, Scorer

QUANTILE, CONFIDENCE = 0.1, 0.9
"""The promise that scores are compared at: the threshold is this quantile of the unmasked losses."""
IMAGES, POINTS = 64, 64
"""Selection images and points of a grid on which scores are compared."""


def constant(x: Images, y_hat: Images) -> Images:
    """One value everywhere: all pixels are masked alike."""
    return torch.ones_like(y_hat[:, :1])


def worth_of(
    trained: Scorer, selection: Triplets, loss: Loss, family: Family, threshold: float
) -> Worth | None:
    """Mean mask sizes of the trained score, of local_spread and of a constant, at one promise.

    All are calibrated and measured on the same images, the first IMAGES of the selection, with the family of
    the trained score. None where these are too few for the promise, or where the threshold is 0.
    """
    first = selection.select(range(min(IMAGES, len(selection))))
    if len(first) < smallest_marginal_set(CONFIDENCE) or threshold <= 0:
        return None
    scorers = (trained, Heuristic(local_spread, 1), Heuristic(constant, 1))
    sizes = (_mask_size(scorer, first, loss, family, threshold) for scorer in scorers)
    return Worth(len(first), threshold, *sizes)


def _mask_size(scorer: Scorer, images: Triplets, loss: Loss, family: Family, threshold: float) -> float:
    items = list(scored(scorer, images, f"comparing {scorer.name}"))
    grid = NO_GRID if loss.monotone else lambda_grid(family, loss, items, POINTS)
    lambdas = np.concatenate([critical_lambdas(item, family, loss, grid, threshold) for item in items])
    lam = smallest(lambdas, marginal_rank(len(images), CONFIDENCE))
    return mean_size(family, [item.score.map for item in items], lam)


def warn_if_useless(worth: Worth) -> None:
    """Say so where a score that learns nothing gives masks as small."""
    others = {"the local spread of y_hat": worth.local_spread, "one value everywhere": worth.constant}
    best = min(others, key=lambda name: others[name])
    if worth.trained >= others[best]:
        warnings.warn(
            f"the trained score is of no use yet: on the selection images its masks hide {worth.trained:.0%} "
            f"of an image, those of {best} {others[best]:.0%}: train longer, on more triplets, or take "
            "--scorer spread (scorer='spread'), which needs no training",
            stacklevel=3,
        )
