"""Fitting the level of images on selection images, and on quarters of some of them."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
from jaxtyping import Float

from conformask.arithmetic import resized, window_index
from conformask.calibration import ScoredBatch, concentrated, start_of
from conformask.conformal.crossing import between_grid_points
from conformask.conformal.curves import Curves
from conformask.conformal.guarantee import Guarantee
from conformask.conformal.kernel_ridge import fitted
from conformask.masks.mask_family import Family
from conformask.names import Level
from conformask.records.selection import Selection
from conformask.scorers.image_level import LevelModel, level_features
from conformask.scorers.scorer import Scorer
from conformask.types import Loss, Score

FEWEST = 20
"""Number of selection images, or groups of them, from which a level is fitted."""
QUARTERED = 60
"""Number of selection images whose quarters are fitted too: with few images, they are worth many more."""
SIDE = 16
"""Least side of a quarter, in pixels."""
ALL_SHOWN = 1e-9
"""Mask size up to which all of an image is shown."""
BEYOND = 4.0
"""Largest factor by which an image that needs no mask counts as easier than one that just needs none."""


def quarters_of(item: ScoredBatch, loss: Loss) -> Iterator[ScoredBatch]:
    """Yield the quarters of images along their last two axes, by the score of the whole images.

    There are none where a quarter would be too small, or where the loss is not one of the errors of pixels.
    """
    batch, sides = item.batch, [side // 2 for side in item.batch.y_hat.shape[-2:]]
    of_pixels = loss.errors is not None and not (loss.terms.of_objects or loss.terms.subtracts_noise)
    if batch.y_hat.ndim < 4 or min(sides) < SIDE or not of_pixels:
        return
    x = resized(batch.x, batch.y_hat)
    for starts in product((0, 1), repeat=2):
        corner = zip(starts, sides, strict=True)
        index = window_index(tuple(slice(start * side, (start + 1) * side) for start, side in corner))
        y, region = (None if each is None else each[index] for each in (batch.y, batch.region))
        if region is not None and not bool((region > 0).flatten(1).any(dim=1).all()):
            continue
        quarter = replace(batch, x=x[index], y_hat=batch.y_hat[index], y=y, region=region, cues=None)
        yield ScoredBatch(quarter, Score(item.score.map[index]))


def level_features_of(item: ScoredBatch) -> Float[np.ndarray, "n f"]:
    """Return the features that the level of each image is predicted from."""
    return level_features(item.batch.x, item.batch.y_hat, item.score.map).cpu().numpy()


def may_have_level(scorer: Scorer, choice: Level | None = None) -> bool:
    """Return whether images get a level if it pays; maps, unless it is chosen, have one value for all."""
    return choice == "image" or (choice is None and not scorer.by_value)


def fit_level(
    record: Selection, family: Family, loss: Loss, promise: Guarantee, threshold: float
) -> LevelModel | None:
    """Fit the level for a threshold; None where images are too few, or where one lambda does nearly as well.

    With scores divided by it, the critical lambdas of all images are predicted to be the same. There is none
    for a family whose masks do not change with the scale of a score.
    """
    curves, quarters = (of_families.get(family.name) for of_families in (record.curves, record.quarters))
    features = record.level_features
    if curves is None or curves.group is None or features is None or family.degree == 0:
        return None
    parts = [replace(curves, features=features), *([] if quarters is None else [quarters])]
    groups = np.concatenate([np.asarray(part.group) for part in parts])
    if len(np.unique(groups)) < FEWEST:
        return None
    start = start_of(curves, threshold, promise, loss)
    rows = np.concatenate([np.asarray(part.features) for part in parts])
    logs = np.concatenate([_log_lambdas(part.from_start(start), threshold) for part in parts])
    logs /= family.degree
    is_whole = np.arange(len(logs)) < len(features)
    ridge, left_out = fitted(rows, logs, groups, is_whole)
    return LevelModel(ridge, left_out[is_whole]) if ridge.weights.any() else None


def _log_lambdas(curves: Curves, threshold: float) -> Float[np.ndarray, "n"]:
    """Return the logarithms of critical lambdas, finite ones also for images that need no mask.

    Those count as if their loss went on growing with lambda, in proportion, up to BEYOND.
    """
    grid = curves.grid
    critical = between_grid_points(grid, curves.loss, threshold)
    opened = grid[(curves.size <= ALL_SHOWN).argmax(axis=1)].clip(max=grid[-2])
    room = np.clip(threshold / np.maximum(curves.loss[:, -1], np.finfo(float).tiny), 1, BEYOND)
    return np.asarray(np.log(np.where(np.isfinite(critical), critical, opened * room).clip(min=grid[1])))


def along_levels(curves: Curves, model: LevelModel, family: Family) -> Curves:
    """Return the curves of the selection images for scores that are divided by their levels."""
    factors = np.exp(family.degree * model.held_out)
    even = np.geomspace(curves.grid[1] / factors.max(), curves.grid[-2] / factors.min(), len(curves.grid) - 2)
    along = curves.along(factors, concentrated(curves.along(factors, even)))
    if along.features is None:
        return along
    features = along.features.copy()
    features[:, 0] -= model.held_out  # the logarithm of the mean score, which levels divide
    return replace(along, features=features)
