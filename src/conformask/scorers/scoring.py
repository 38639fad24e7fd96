"""Scores of a whole collection of triplets, batch by batch, and the record of the selection images."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from conformask.arithmetic import best_device, full_precision
from conformask.calibration import (
    GRID_POINTS,
    ScoredBatch,
    batch_curves,
    concatenate,
    lambda_grid,
    measures,
    unmasked_loss,
)
from conformask.conformal.curves import Curves
from conformask.data.batches import BATCH_SIZE
from conformask.data.scan import labelled
from conformask.data.splits import uniform
from conformask.data.triplets import Triplets
from conformask.errors import ImageError, MismatchError
from conformask.masks.mask_family import Family
from conformask.progress import tracked
from conformask.records.selection import Selection
from conformask.scorers.level_fit import QUARTERED, level_features_of, quarters_of
from conformask.scorers.scorer import Scorer, called
from conformask.storage.as_arrays import Array
from conformask.types import Batch, Images, Loss, Score

Scoring = Callable[..., Score]
"""A function from (x, y_hat), or (x, y_hat, cues), to a score."""
SOME = 64
"""Number of selection images that determine the points of a grid, and on which scores are compared."""


def scored(
    scorer: Scorer, triplets: Triplets, title: str, batch_size: int = BATCH_SIZE
) -> Iterator[ScoredBatch]:
    """Yield each batch of images of one shape with its score, showing a progress bar.

    Raises:
        ImageError: see score_of.
    """
    return tracked(scored_batches(scorer, triplets, batch_size), title, len(triplets), len)


def scored_batches(
    scorer: Scoring, triplets: Triplets, batch_size: int = BATCH_SIZE
) -> Iterator[ScoredBatch]:
    """Yield batches with their scores without a progress bar; on the accelerator where there is one."""
    for batch in batches_of(triplets, batch_size):
        yield ScoredBatch(batch, score_of_batch(scorer, batch))


def batches_of(triplets: Triplets, batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
    """Yield batches on the accelerator, where there is one."""
    device = best_device()
    for batch in triplets.batches(batch_size):
        yield batch.to(device)


def score_of_batch(scorer: Scoring, batch: Batch) -> Score:
    """Compute the score of a batch, see score_of."""
    return score_of(scorer, batch.x, batch.y_hat, batch.names, batch.cues)


def score_of(
    scorer: Scoring,
    x: Images,
    y_hat: Images,
    names: Sequence[str] = ("the images",),
    cues: Tensor | None = None,
) -> Score:
    """Compute the score in full float32 precision, and check it: an invalid score could open masks.

    Raises:
        MismatchError: the scorer takes maps beside y_hat, and there are none, or of another shape.
        ImageError: the score or a feature is NaN or infinite, the score negative, or of another size than
            y_hat; names the image.
    """
    if isinstance(scorer, Scorer) and cues is not None:
        cues = scorer.own(cues)
    _check_cues(getattr(scorer, "cue_channels", 0), y_hat, cues, names[0])
    with torch.no_grad(), full_precision(y_hat):
        score = called(scorer, x, y_hat, cues)
    shape, expected = tuple(score.map.shape), tuple(y_hat.shape)
    if shape not in (expected, (expected[0], 1, *expected[2:])):
        raise ImageError(
            f"the score of {names[0]!r} has shape {shape}, but y_hat has {expected}: return the same size, "
            "with one channel or as many as y_hat"
        )
    usable = ((score.map >= 0) & score.map.isfinite()).flatten(1).all(dim=1)
    if score.features is not None:
        usable = usable & score.features.isfinite().all(dim=1)
    if not bool(usable.all()):
        first = int(usable.int().argmin())
        raise ImageError(
            f"the score of {names[min(first, len(names) - 1)]!r} is negative, NaN or infinite: scores must "
            "be finite and at least 0"
        )
    return score


def _check_cues(needed: int, y_hat: Images, cues: Tensor | None, name: str) -> None:
    if not needed:
        return
    expected = (len(y_hat), needed, *y_hat.shape[2:])
    if cues is None:
        raise MismatchError(
            f"{name!r} comes without the maps that its score needs: give them as in the calibration, "
            "cues= (Python) or the folder of --score-from, --cues or --objects (command line)"
        )
    if tuple(cues.shape) != expected:
        raise MismatchError(
            f"the maps of {name!r} have shape {tuple(cues.shape)}, but the score is read from {expected}"
        )


def spread_over_groups(triplets: Triplets, n: int = SOME) -> Triplets:
    """Return at most n triplets of as many groups as there are: one of each, then another of each, ..."""
    taken: Counter[str] = Counter()
    turns = np.empty(len(triplets), int)
    for place in sorted(range(len(triplets)), key=lambda place: uniform(0, "spread", triplets.names[place])):
        turns[place] = taken[triplets.groups[place]]
        taken[triplets.groups[place]] += 1
    return triplets.select(np.sort(np.argsort(turns, kind="stable")[:n]).tolist())


def selection_record(
    scorer: Scorer,
    selection: Triplets,
    loss: Loss,
    families: Sequence[Family],
    points: int = GRID_POINTS,
    unmasked: Array | None = None,
    *,
    levels: bool = True,
    items: list[ScoredBatch] | None = None,
) -> Selection:
    """Compute unmasked losses of the selection images, and for each family a grid and the curves on it.

    If `levels`, so are features of the images, and curves of quarters of some, from which the level of an
    image is fitted. The unmasked losses are those where lambda is infinite, unless they are given. `items`
    are the scores of the images of `spread_over_groups`, if they are known.
    """
    if items is None:
        items = list(scored(scorer, spread_over_groups(selection), "grids"))
    done = {name for item in items for name in item.batch.names}
    others = [place for place, name in enumerate(selection.names) if name not in done]
    grids = {family.name: lambda_grid(family, loss, items, points) for family in families}
    rest = scored(scorer, selection.select(others), "selection") if others else []
    features, parts, quarters = [], defaultdict(list), defaultdict(list)
    for item in chain(items, rest):
        for family in families:
            parts[family.name].append(measures(item, family, loss, grids[family.name]))
        if not levels:
            continue
        features.append(level_features_of(item))
        for quarter in quarters_of(item, loss) if sum(map(len, features)) <= QUARTERED else ():
            columns = {"names": np.array(quarter.batch.names), "features": level_features_of(quarter)}
            for family in families:
                losses, size = batch_curves(quarter, family, loss, grids[family.name])
                quarters[family.name].append(columns | {"distance": losses, "size": size})

    def curves(of_families: Mapping[str, Sequence[dict[str, Array]]]) -> dict[str, Curves]:
        return {
            name: Curves.from_arrays(concatenate(of_family) | {"grid": grids[name]})
            for name, of_family in of_families.items()
        }

    measured, place_of = curves(parts), {name: place for place, name in enumerate(selection.names)}
    in_order = np.argsort([place_of[name] for name in next(iter(measured.values())).names])
    of_images = {name: labelled(each.take(in_order), selection) for name, each in measured.items()}
    group_of = dict(zip(selection.names, selection.groups, strict=True))
    of_quarters = {
        name: replace(of_family, group=np.array([group_of[each] for each in of_family.names]))
        for name, of_family in curves(quarters).items()
    }
    unmasked = next(iter(of_images.values())).loss[:, -1] if unmasked is None else unmasked
    of_levels = np.concatenate(features)[in_order] if features else None
    return Selection(loss.terms, unmasked, of_images, None, of_levels, of_quarters)


def unmasked_losses(selection: Triplets, loss: Loss) -> Array:
    """Compute the loss of every image without a mask, (n,) float64."""
    batches = tracked(batches_of(selection), "losses without a mask", len(selection), len)
    losses = (unmasked_loss(loss, batch) for batch in batches)
    return np.concatenate([each.detach().double().cpu().numpy() for each in losses])
