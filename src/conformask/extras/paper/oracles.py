"""The oracles of a row: the paper's Opt and the exact optimum, which see the truth."""

import numpy as np
import torch

from conformask.arithmetic import best_device
from conformask.arrays import Batch, Distance
from conformask.background import tracked
from conformask.extras.paper.settings import QUANTILE, PaperPreset
from conformask.images.triplets import BATCH_SIZE, Triplets
from conformask.losses import loss
from conformask.losses.base import Loss
from conformask.masks.critical import loss_under, mask_size, paper_oracle, unmasked_loss
from conformask.records.record import Array

OPT_BATCH = 4
"""Number of images on which Opt is iterated together, as long as the slowest of them takes."""


def threshold_of(loss_of_row: Loss, selection: Triplets) -> float:
    """Return the quantile of the unmasked loss on the selection images, as calibration finds it."""
    losses = [
        unmasked_loss(loss_of_row, batch.to(best_device())).detach().double().cpu().numpy()
        for batch in selection.batches(BATCH_SIZE)
    ]
    return float(np.quantile(np.concatenate(losses), QUANTILE))


def oracles(distance: Distance, test: Triplets, threshold: float, preset: PaperPreset) -> dict[str, Array]:
    """Return the threshold, and size and distance of Opt and the exact oracle on the test images.

    The paper's Opt is solved on all images for lp, else iterated on opt_images spread evenly over them.
    """
    n, exponent = len(test), distance.exponent
    iterated = np.linspace(0, n - 1, min(n, preset.opt_images)).round().astype(int)
    indices = np.arange(n) if exponent is not None else iterated
    size = BATCH_SIZE if exponent is not None else OPT_BATCH
    names = ("opt_size", "opt_distance", "exact_size", "exact_distance")
    sizes = {name: np.full(n, np.nan) for name in names}
    start = 0
    for batch in tracked(test.select(indices.tolist()).batches(size), "oracles", len(indices), len):
        batch_indices = indices[start : start + len(batch.names)]
        for name, values in _oracles(distance, batch.to(best_device()), threshold).items():
            sizes[name][batch_indices] = values
        start += len(batch_indices)
    return sizes | {"threshold": np.array(threshold), "computed": indices}


def _oracles(distance: Distance, batch: Batch, threshold: float) -> dict[str, Array]:
    row_loss, y_hat = loss(distance), batch.y_hat
    mask, reached = paper_oracle(distance, batch.truth(), y_hat, threshold, per_channel=True)
    sizes = {
        "opt_size": torch.where(reached, mask_size(mask), torch.nan),
        "opt_distance": loss_under(row_loss, mask, batch).double(),
    }
    exact_mask = row_loss.of_batch(batch, y_hat.shape[1]).oracle(threshold)
    if exact_mask is not None:
        sizes["exact_size"] = mask_size(exact_mask)
        sizes["exact_distance"] = loss_under(row_loss, exact_mask, batch).double()
    return {name: values.detach().cpu().numpy() for name, values in sizes.items()}
