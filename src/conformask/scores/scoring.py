"""Scores and measures of whole collections: batch by batch, part by part, on several devices, resumable."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from conformask.arrays import Batch, best_device
from conformask.background import Compute, launch, main_process, tracked
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.images.rows import uniform
from conformask.images.triplets import BATCH_SIZE, Triplets
from conformask.losses.base import Loss
from conformask.masks.critical import (
    GRID_POINTS,
    batch_curves,
    concatenate,
    lambda_grid,
    measures,
    unmasked_loss,
)
from conformask.masks.family import Family
from conformask.promises.order import Curves
from conformask.records.record import (
    Array,
    claim,
    exclusive_folder,
    hash_of_parts,
    hash_of_text,
    read_arrays,
    refuse_unclaimed_in,
    remove_claimed,
    remove_if_empty,
    write_arrays,
)
from conformask.records.selection import Selection
from conformask.scores.level import QUARTERED, level_features_of, quarters_of
from conformask.scores.scorer import Scorer, score_of_batch

SOME = 64
"""Number of selection images that determine the points of a grid, and on which scores are compared."""


def scored(scorer: Scorer, triplets: Triplets, title: str, batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
    """Yield each batch of images of one shape with its score, showing a progress bar."""
    return tracked(scored_batches(scorer, triplets, batch_size), title, len(triplets), len)


def scored_batches(scorer: Scorer, triplets: Triplets, batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
    """Yield batches with their scores without a progress bar; on the accelerator where there is one."""
    for batch in batches_of(triplets, batch_size):
        yield batch.with_score(score_of_batch(scorer, batch))


def batches_of(triplets: Triplets, batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
    """Yield batches on the accelerator, where there is one."""
    device = best_device()
    for batch in triplets.batches(batch_size):
        yield batch.to(device)


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
    points: int | None = None,
    unmasked: Array | None = None,
    *,
    levels: bool = True,
    items: list[Batch] | None = None,
) -> Selection:
    """Compute unmasked losses of the selection images, and for each family a grid and the curves on it.

    If `levels`, so are features of the images, and curves of quarters of some, from which the level of an
    image is fitted. The unmasked losses are those where lambda is infinite, unless they are given. `items`
    are the scores of the images of `spread_over_groups`, if they are known.
    """
    if items is None:
        items = list(scored(scorer, spread_over_groups(selection), "grids"))
    done = {name for item in items for name in item.names}
    others = [place for place, name in enumerate(selection.names) if name not in done]
    grids = {family.name: lambda_grid(family, loss, items, points or GRID_POINTS) for family in families}
    rest = scored(scorer, selection.select(others), "selection") if others else []
    features, parts, quarters = [], defaultdict(list), defaultdict(list)
    for item in chain(items, rest):
        for family in families:
            parts[family.name].append(measures(item, family, loss, grids[family.name]))
        if not levels:
            continue
        features.append(level_features_of(item))
        for quarter in quarters_of(item, loss) if sum(map(len, features)) <= QUARTERED else ():
            columns = {"names": np.array(quarter.names), "features": level_features_of(quarter)}
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
    of_images = {name: each.take(in_order).labelled(selection.columns) for name, each in measured.items()}
    group_of = dict(zip(selection.names, selection.groups, strict=True))
    of_quarters = {
        name: replace(of_family, group=np.array([group_of[each] for each in of_family.names]))
        for name, of_family in curves(quarters).items()
    }
    unmasked = next(iter(of_images.values())).loss[:, -1] if unmasked is None else unmasked
    of_levels = np.concatenate(features)[in_order] if features else None
    return Selection(loss, unmasked, of_images, None, of_levels, of_quarters)


def unmasked_losses(selection: Triplets, loss: Loss) -> Array:
    """Compute the loss of every image without a mask, (n,) float64."""
    batches = tracked(batches_of(selection), "losses without a mask", len(selection), len)
    losses = (unmasked_loss(loss, batch) for batch in batches)
    return np.concatenate([each.detach().double().cpu().numpy() for each in losses])


RECORD, CONTENTS = "parts.json", "contents"
PART = 64
"""Number of images in a part: at most this many have to be repeated when a run is killed."""
Measure = Callable[[Batch], dict[str, Array]]


def check_parts(compute: Compute) -> None:
    """Refuse several processes without a folder that they share."""
    if compute.parts is None and not compute.is_one_process:
        raise InvalidArgumentError("several devices need a folder for their parts: Compute(parts=...)")


@contextmanager
def parts_folder(compute: Compute) -> Iterator[None]:
    """Own the folder of parts while they are made and used; keep it where a run can be resumed.

    Without a folder the measures are kept in memory, which are small. Images are never kept.
    """
    check_parts(compute)
    if compute.parts is None:
        yield
        return
    used, folder = False, Path(compute.parts)
    refuse_unclaimed_in(folder)
    try:
        with exclusive_folder(folder):
            yield
            used = True
    finally:
        if main_process() and (used or not any(folder.glob("part-*"))):
            remove_claimed(folder / RECORD)
            remove_if_empty(folder)


def gathered(
    scorer: Scorer, triplets: Triplets, measure: Measure, title: str, key: object, compute: Compute
) -> dict[str, Array]:
    """Compute the measures of all images, in their order, whatever the batches and processes.

    `key` identifies the measures; parts of a killed run are reused if it, the scorer and the images are the
    same.
    """
    starts = range(0, len(triplets), PART)
    if compute.parts is None:
        items = _batches(scorer, triplets, starts)
        return concatenate(measure(item) for item in tracked(items, title, len(triplets), len))
    made_of = repr((scorer.fingerprint, triplets.names, *triplets.reading.facts, key))
    fingerprint, folder = hash_of_text(made_of)[:16], Path(compute.parts)
    files = [folder / f"part-{fingerprint}-{start:08d}.npz" for start in starts]
    processes = launch(compute)
    if processes.is_first:
        claim(folder / RECORD, {}, [file.name for file in files])
    processes.wait()
    mine = range(processes.rank, len(files), processes.count)
    for place in tracked(mine, title, len(mine)):
        own = starts[place : place + 1]
        if not _is_of(files[place], _part(triplets, own[0])):
            items = _batches(scorer, triplets, own)
            measured = ({**measure(item), CONTENTS: _contents(item)} for item in items)
            write_arrays(files[place], concatenate(measured))
    processes.wait()
    columns = concatenate(map(read_arrays, files))
    processes.wait()
    del columns[CONTENTS]
    return columns


def _batches(scorer: Scorer, triplets: Triplets, starts: range) -> Iterator[Batch]:
    for start in starts:
        yield from scored_batches(scorer, _part(triplets, start), BATCH_SIZE)


def _part(triplets: Triplets, start: int) -> Triplets:
    return triplets.select(range(start, min(start + PART, len(triplets))))


def _contents(batch: Batch) -> Array:
    """Return for each image a hash of everything known about it."""
    images = {"x": batch.x, "y_hat": batch.y_hat, "y": batch.y, **batch.layers}
    columns = {"name": batch.names, **batch.facts}

    def parts(place: int) -> Iterator[bytes]:
        for name, values in images.items():
            yield f"{name} {None if values is None else tuple(values.shape)}".encode()
            yield b"" if values is None else values[place].cpu().numpy().tobytes()
        for name, column in columns.items():
            yield f"{name} {column[place]!r}".encode()

    return np.array([hash_of_parts(parts(place)) for place in range(len(batch))])


def _is_of(file: Path, images: Triplets) -> bool:
    """Return whether a part is finished, for exactly these images; damaged or other ones are made again."""
    with suppress(MismatchError):
        kept = read_arrays(file).get(CONTENTS) if file.is_file() else None
        return kept is not None and kept.tolist() == [
            each for batch in images.batches() for each in _contents(batch).tolist()
        ]
    return False
