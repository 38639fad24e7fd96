"""What a score is worth: its masks on selection images beside the best ones and those of other scores."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from conformask.calibration import (
    NO_GRID,
    Scored,
    critical_lambdas,
    lambda_grid,
    mask_size,
    sizes_at,
    unmasked_loss,
)
from conformask.conformal.intervals import correlation
from conformask.conformal.order import marginal_rank, smallest, smallest_marginal_set
from conformask.data.triplets import Triplets
from conformask.oracle import oracle
from conformask.records.curves import Worth
from conformask.scorers.heuristic import Heuristic
from conformask.scorers.scoring import scored, scored_batches
from conformask.scorers.spread import local_spread
from conformask.scorers.untrained import packaged_scorer
from conformask.types import Array, Family, Images, Loss, Scorer

CONFIDENCE = 0.9
"""Of the promise that scores are compared at."""
IMAGES, POINTS = 64, 64
"""Selection images and points of a grid on which scores are compared."""
HARDLY = 0.95
"""A score whose masks are hardly smaller than those of one value everywhere: by this share of them."""

CLEARLY = 1.1
"""A score hides clearly more from this ratio on: less may be chance on IMAGES images."""


def constant(x: Images, y_hat: Images) -> Images:
    """One value everywhere: all pixels are masked alike."""
    return torch.ones_like(y_hat[:, :1])


@dataclass(frozen=True)
class Yardstick:
    """Selection images, a promise, and what other scores and the best masks hide of them.

    All are calibrated and measured on the same images, the first IMAGES of the selection, with the family of
    the trained score.
    """

    images: Triplets
    loss: Loss
    family: Family
    threshold: float
    others: Mapping[str, float]
    """Hidden shares under scores without training."""
    oracle: float | None
    """Under the best masks, where they are known."""

    @classmethod
    def on(cls, selection: Triplets, loss: Loss, family: Family, threshold: float) -> "Yardstick | None":
        """None where the images are too few for the promise, or where the threshold is 0."""
        first = selection.select(range(min(IMAGES, len(selection))))
        if len(first) < smallest_marginal_set(CONFIDENCE) or threshold <= 0:
            return None
        scorers: dict[str, Scorer] = {
            "packaged": packaged_scorer().of(first, loss),
            "spread": Heuristic(local_spread, 1),
            "constant": Heuristic(constant, 1),
        }
        items = {name: list(scored(each, first, f"comparing {name}")) for name, each in scorers.items()}
        sizes = {name: float(_sizes(each, loss, family, threshold).mean()) for name, each in items.items()}
        return cls(first, loss, family, threshold, sizes, _best(items["constant"], loss, threshold))

    def worth(self, trained: Scorer) -> Worth:
        """Hidden shares under the score, and under all that it is compared with."""
        items = list(scored_batches(trained, self.images))
        sizes = _sizes(items, self.loss, self.family, self.threshold)
        unmasked = torch.cat([unmasked_loss(self.loss, item.batch) for item in items]).cpu().numpy()
        return Worth(
            n=len(self.images),
            threshold=self.threshold,
            trained=float(sizes.mean()),
            packaged=self.others["packaged"],
            local_spread=self.others["spread"],
            constant=self.others["constant"],
            oracle=self.oracle,
            correlation=correlation(sizes, unmasked),
        )


def _sizes(items: list[Scored], loss: Loss, family: Family, threshold: float) -> Array:
    grid = NO_GRID if loss.monotone else lambda_grid(family, loss, items, POINTS)
    lambdas = np.concatenate([critical_lambdas(item, family, loss, grid, threshold) for item in items])
    lam = smallest(lambdas, marginal_rank(len(lambdas), CONFIDENCE))
    sizes: Array = sizes_at(family, [item.score.map for item in items], lam).cpu().numpy()
    return sizes


def _best(items: list[Scored], loss: Loss, threshold: float) -> float | None:
    masks = [oracle(loss, item.batch, 1, threshold) for item in items]
    known = [mask_size(mask) for mask in masks if mask is not None]
    return float(torch.cat(known).mean()) if known else None


def hides_clearly_more(worth: Worth) -> bool:
    """Whether the packaged score, without training, gives clearly smaller masks."""
    return worth.trained > CLEARLY * worth.packaged


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
