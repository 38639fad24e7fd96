"""What a score is worth: its masks on selection images beside the best ones and those of other scores."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch

from conformask.calibration import (
    NO_GRID,
    Scored,
    critical_lambdas,
    lambda_grid,
    mask_size,
    unmasked_loss,
)
from conformask.conformal.order import marginal_rank, smallest, smallest_marginal_set
from conformask.data.triplets import Triplets
from conformask.oracle import oracle
from conformask.records.curves import Worth
from conformask.scorers.heuristic import Heuristic
from conformask.scorers.scoring import scored
from conformask.scorers.spread import local_spread
from conformask.scorers.untrained import packaged_scorer
from conformask.types import Array, Family, Images, Loss, Scorer

CONFIDENCE = 0.9
"""Of the promise that scores are compared at."""
IMAGES, POINTS = 64, 64
"""Selection images and points of a grid on which scores are compared."""
HARDLY = 0.95
"""A score whose masks are hardly smaller than those of one value everywhere: by this share of them."""


def constant(x: Images, y_hat: Images) -> Images:
    """One value everywhere: all pixels are masked alike."""
    return torch.ones_like(y_hat[:, :1])


@dataclass(frozen=True)
class Yardstick:
    """Selection images and a promise, by which scores are compared.

    All are calibrated and measured on the same images, the first IMAGES of the selection, with the family of
    the trained score.
    """

    images: Triplets
    loss: Loss
    family: Family
    threshold: float

    @classmethod
    def on(cls, selection: Triplets, loss: Loss, family: Family, threshold: float) -> "Yardstick | None":
        """None where the images are too few for the promise, or where the threshold is 0."""
        first = selection.select(range(min(IMAGES, len(selection))))
        enough = len(first) >= smallest_marginal_set(CONFIDENCE) and threshold > 0
        return cls(first, loss, family, threshold) if enough else None

    def worth(self, trained: Scorer) -> Worth:
        """Hidden shares under the score, and under all that it is compared with."""
        items = self._scored(trained)
        sizes = self._sizes(items)
        unmasked = torch.cat([unmasked_loss(self.loss, item.batch) for item in items]).cpu().numpy()
        packaged_score = packaged_scorer().of(self.images, self.loss)
        others = (packaged_score, Heuristic(local_spread, 1), Heuristic(constant, 1))
        packaged, spread, same = (float(self._sizes(self._scored(other)).mean()) for other in others)
        return Worth(
            n=len(self.images),
            threshold=self.threshold,
            trained=float(sizes.mean()),
            packaged=packaged,
            local_spread=spread,
            constant=same,
            oracle=self._oracle(items),
            correlation=_correlation(sizes, unmasked),
        )

    def _scored(self, scorer: Scorer) -> list[Scored]:
        return list(scored(scorer, self.images, f"comparing {scorer.name}"))

    def _sizes(self, items: list[Scored]) -> Array:
        grid = NO_GRID if self.loss.monotone else lambda_grid(self.family, self.loss, items, POINTS)
        lambdas = np.concatenate(
            [critical_lambdas(item, self.family, self.loss, grid, self.threshold) for item in items]
        )
        lam = smallest(lambdas, marginal_rank(len(self.images), CONFIDENCE))
        return np.concatenate([_sizes_of(self.family, item.score.map, lam) for item in items])

    def _oracle(self, items: list[Scored]) -> float | None:
        masks = [oracle(self.loss, item.batch, item.score.map.shape[1], self.threshold) for item in items]
        known = [mask_size(mask) for mask in masks if mask is not None]
        return float(torch.cat(known).mean()) if known else None


def _sizes_of(family: Family, score: Images, lam: float) -> Array:
    lambdas = torch.full((len(score),), lam, dtype=torch.float64, device=score.device)
    sizes: Array = mask_size(family.apply(score, family.level(score, lambdas))).cpu().numpy()
    return sizes


def _correlation(sizes: Array, losses: Array) -> float | None:
    if np.ptp(sizes) == 0 or np.ptp(losses) == 0:
        return None
    return float(np.corrcoef(sizes, losses)[0, 1])


def warn_if_useless(worth: Worth) -> None:
    """Say so where a score that needs no training gives masks as small, or one value everywhere nearly so."""
    others = {"packaged": worth.packaged, "spread": worth.local_spread}
    best = min(others, key=lambda name: others[name])
    hidden = f"on the selection images its masks hide {worth.trained:.0%} of an image"
    if worth.trained >= others[best]:
        warnings.warn(
            f"the trained score is of no use yet: {hidden}, those of scorer {best}, which needs no training, "
            f"{others[best]:.0%}: train longer, on more triplets, or take --scorer {best} "
            f"(scorer={best!r})",
            stacklevel=3,
        )
    elif worth.trained >= HARDLY * worth.constant:
        warnings.warn(
            f"the trained score is hardly of use: {hidden}, those of one value everywhere "
            f"{worth.constant:.0%}: train longer, on more triplets, or choose another threshold",
            stacklevel=3,
        )
