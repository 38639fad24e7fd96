"""What a scorer keeps of its selection images, for the choices that follow."""

from collections.abc import Sequence

import numpy as np

from conformask.calibration import GRID_POINTS, joined, lambda_grid, measures, unmasked_loss
from conformask.data.columns import labelled
from conformask.data.triplets import Triplets
from conformask.records.curves import Curves, Selection
from conformask.scorers.scoring import scored
from conformask.types import Array, Family, Loss, Scorer

GRID_IMAGES = 64
"""How many selection images place the points of a grid."""


def selection_record(
    scorer: Scorer,
    selection: Triplets,
    loss: Loss,
    families: Sequence[Family],
    points: int = GRID_POINTS,
) -> Selection:
    """Unmasked losses, and for each family a grid and the curves on it, of the selection images."""
    first = selection.select(range(min(GRID_IMAGES, len(selection))))
    items = list(scored(scorer, first, "grids"))
    grids = {family.name: lambda_grid(family, loss, items, points) for family in families}
    unmasked: list[Array] = []
    parts: dict[str, list[dict[str, Array]]] = {family.name: [] for family in families}
    for item in scored(scorer, selection, "selection"):
        unmasked.append(unmasked_loss(loss, item.batch).detach().double().cpu().numpy())
        for family in families:
            parts[family.name].append(measures(item, family, loss, grids[family.name]))
    curves = {name: Curves.from_arrays(joined(parts[name]) | {"grid": grids[name]}) for name in grids}
    with_columns = {name: labelled(found_curves, selection) for name, found_curves in curves.items()}
    return Selection(loss.terms, np.concatenate(unmasked), with_columns)
