"""What a calibration measures: losses and mask sizes along a grid, part by part; and its card."""

from typing import cast

import numpy as np
from jaxtyping import Float

from conformask.arrays import Array, Batch
from conformask.background import Compute
from conformask.images.rows import Role
from conformask.images.scan import DatasetSummary, labelled
from conformask.images.triplets import Triplets
from conformask.masker.guards import hidden_by, sample_counts, weights_of
from conformask.masker.looks import appearance
from conformask.masker.resolve import Choices
from conformask.masks.critical import lambda_grid, measures
from conformask.promises.axes import Simultaneous
from conformask.promises.data import Curves
from conformask.promises.rules import Rule
from conformask.records.card import CalibrationCard, now
from conformask.scores.level import Levelled
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


ROLES: tuple[Role, ...] = ("x", "y_hat")
"""The images of which a card keeps the range."""
WHOLE = "whole images"
"""The population of a promise about images that are scored by tiles."""


def card_of(
    choices: Choices,
    calibration: Triplets,
    seen: DatasetSummary,
    chosen_on: DatasetSummary | None,
    curves: Curves,
    rule: Rule,
    hidden: float,
) -> CalibrationCard:
    """Return the card of a calibration: its promise, and the images that it rests on."""
    promise, tiles = choices.promise, choices.scorer.tiles
    certainty = promise.axes.certainty
    seen_ids = {*seen.image_ids, *(() if chosen_on is None else chosen_on.image_ids)}
    return CalibrationCard(
        threshold=choices.threshold,
        promise=promise.as_stated,
        claim=promise.claim(choices.loss.name, choices.threshold),
        loss=choices.loss,
        family=choices.family.settings(),
        rule=rule,
        exact=choices.loss.monotone and not promise.on_grid,
        exploratory=False,
        thresholds=certainty.thresholds if isinstance(certainty, Simultaneous) else None,
        start=choices.start,
        n_calibration=len(calibration),
        **sample_counts(promise, curves),
        weights=None if curves.weight is None else (float(curves.weight.min()), float(curves.weight.max())),
        channels=seen.channels,
        sizes=seen.sizes,
        repeats=calibration.reference.repeats,
        read=calibration.reading,
        geometry=seen.geometry,
        clipped=seen.clipped,
        range_of_x=calibration.range_of("x"),
        range_of_y_hat=calibration.range_of("y_hat"),
        turned=tuple(role for role in ROLES if calibration.header(0, role).turned_about is not None),
        population=calibration.provenance.population or (tiles and WHOLE),
        calibrated=now(),
        calibrated_on=seen.truth_ids,
        seen=tuple(sorted(seen_ids - {*seen.truth_ids})),
        tiles=tiles,
        patches=choices.scorer.patches,
        level="image" if isinstance(choices.scorer, Levelled) else "one",
        network=calibration.network,
        cues_made=calibration.provenance.cues if choices.scorer.cue_channels else None,
        image_errors=choices.image_errors,
        hides=hidden_by(rule, hidden),
        hidden=hidden,
    )
