"""What a calibration measures: losses and mask sizes along a grid, part by part."""

from typing import cast

import numpy as np
from jaxtyping import Float

from conformask.arrays import Array, Batch
from conformask.background import Compute
from conformask.images.scan import labelled
from conformask.images.triplets import Triplets
from conformask.masker.admission import appearance
from conformask.masker.arguments import weights_of
from conformask.masker.choices import Choices
from conformask.masks.critical import lambda_grid, measures
from conformask.promises.data import Curves
from conformask.scores.scoring import gathered, scored

GRID_FROM = 8
"""Number of calibration images that a grid is made from if there are no selection images."""


def own_grid(choices: Choices, calibration: Triplets) -> Array:
    """Make a grid from a few calibration images, where there are no selection images.

    The grid does not determine lambda here. For a monotone loss and a promise that deploys an order
    statistic, any lambda below the exact one keeps the promise, so a grid point may also be deployed later.
    """
    some = calibration.select(range(min(len(calibration), GRID_FROM)))
    return lambda_grid(choices.family, choices.loss, list(scored(choices.scorer, some, "grid")))


def measured(
    choices: Choices, calibration: Triplets, made_of: object, compute: Compute
) -> tuple[Curves, Float[np.ndarray, "n"] | None]:
    """Return the curves of the calibration images and, where the loss gives them, exact critical lambdas.

    `made_of` is what parts of a killed calibration must have been made of to be taken up.
    """
    grid, bounded = cast(Array, choices.grid), choices.promise.own_bounds

    def measure(item: Batch) -> dict[str, Array]:
        columns = measures(item, choices.family, choices.loss, grid, choices.threshold, bounded=bounded)
        columns |= {"appearance": appearance(item)}
        if choices.promise.weight is None:
            return columns
        return columns | {"weight": weights_of(choices.promise.weight, item)}

    key = (
        choices.family.settings(),
        choices.loss.to_json(),
        grid.tolist(),
        choices.threshold,
        bounded,
        "appearance",  # missing in parts written by earlier versions
        made_of,
    )
    columns = gathered(choices.scorer, calibration, measure, "calibrating", key, compute)
    critical = columns.pop("critical_lambda", None)
    curves = Curves.from_arrays(columns | {"grid": grid})
    return labelled(curves, calibration), critical
