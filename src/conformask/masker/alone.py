"""Whether what is computed of an image depends on the other images of its batch: no promise covers that."""

import torch
from torch import Tensor

from conformask.arithmetic import best_device
from conformask.errors import CalibrationError
from conformask.scorers.scoring import score_of
from conformask.types import Images, Loss, PerImage, Scorer, Triplet, Weigh

TOLERANCE = 1e-3
"""Relative; batches of other sizes change the rounding of convolutions by a hundredth of it."""


def refuse_batch_dependence(scorer: Scorer, loss: Loss, weigh: Weigh | None, triplet: Triplet) -> None:
    """Compute score, loss and weight of an image by itself and beside its negative, and compare.

    Calibration and use put different images beside each other: their numbers would not be exchangeable.

    Raises:
        CalibrationError: one of them differs; says which.
    """
    arrays = (triplet.x, triplet.y_hat, triplet.truth())
    x, y_hat, y = (torch.from_numpy(image)[None].to(best_device()) for image in arrays)
    two_x, two_y_hat, two_y = torch.cat([x, 1 - x]), torch.cat([y_hat, 1 - y_hat]), torch.cat([y, y])
    alone, together = score_of(scorer, x, y_hat), score_of(scorer, two_x, two_y_hat)
    _compare(f"the score {scorer.name!r}", alone.map, together.map)
    if alone.features is not None and together.features is not None:
        _compare(f"a feature of the score {scorer.name!r}", alone.features, together.features)
    _compare(f"the distance {loss.terms.loss_name!r}", _of(loss, y, y_hat), _of(loss, two_y, two_y_hat))
    if weigh is not None:
        _compare("weight=", weigh(x, y_hat), weigh(two_x, two_y_hat))


def _of(loss: Loss, y: Images, y_hat: Images) -> PerImage:
    return loss.on(y, y_hat, None, 1).of(torch.ones_like(y[:, :1])).detach()


def _compare(what: str, alone: Tensor, together: Tensor) -> None:
    difference = float((together[:1] - alone).abs().max())
    if not difference <= TOLERANCE * float(alone.abs().max()):
        raise CalibrationError(
            f"{what} of the first image differs by {difference:.3g} when another image lies beside it in the "
            "batch: compute it image by image, without statistics of the batch and without chance (a module "
            "in eval mode)"
        )
