"""The record that a scorer keeps of its selection images, for the choices that follow."""

from collections.abc import Sequence

import numpy as np

from conformask.arithmetic import best_device
from conformask.calibration import GRID_POINTS, concatenate, lambda_grid, measures, unmasked_loss
from conformask.conformal.curves import Curves
from conformask.data.scan import labelled
from conformask.data.triplets import Triplets
from conformask.masks.mask_family import Family
from conformask.progress import tracked
from conformask.records.selection import Selection
from conformask.scorers.scorer import Scorer
from conformask.scorers.scoring import scored
from conformask.types import Array, Loss

GRID_IMAGES = 64
"""Number of selection images that determine the points of a grid."""


def selection_record(
    scorer: Scorer,
    selection: Triplets,
    loss: Loss,
    families: Sequence[Family],
    points: int = GRID_POINTS,
    unmasked: Array | None = None,
) -> Selection:
    """Compute unmasked losses of the selection images, and for each family a grid and the curves on it.

    Losses are computed as by `unmasked_losses` unless they are given.
    """
    first = selection.select(range(min(GRID_IMAGES, len(selection))))
    items = list(scored(scorer, first, "grids"))
    grids = {family.name: lambda_grid(family, loss, items, points) for family in families}
    parts: dict[str, list[dict[str, Array]]] = {family.name: [] for family in families}
    for item in scored(scorer, selection, "selection"):
        for family in families:
            parts[family.name].append(measures(item, family, loss, grids[family.name]))
    curves = {name: Curves.from_arrays(concatenate(parts[name]) | {"grid": grids[name]}) for name in grids}
    with_columns = {name: labelled(found_curves, selection) for name, found_curves in curves.items()}
    return Selection(
        loss.terms, unmasked_losses(selection, loss) if unmasked is None else unmasked, with_columns
    )


def unmasked_losses(selection: Triplets, loss: Loss) -> Array:
    """Compute the loss of every image without a mask, (n,) float64."""
    batches = tracked(selection.batches(), "losses without a mask", len(selection), len)
    losses = (unmasked_loss(loss, batch.to(best_device())) for batch in batches)
    return np.concatenate([each.detach().double().cpu().numpy() for each in losses])
