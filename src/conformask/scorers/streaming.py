"""Measures of a collection larger than memory: part by part, resumable, on several devices."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from conformask.calibration import ScoredBatch, concatenate
from conformask.data.batches import BATCH_SIZE
from conformask.data.triplets import Triplets
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.progress import main_process, tracked
from conformask.scorers.scorer import Scorer
from conformask.scorers.scoring import scored_batches
from conformask.storage.as_arrays import Array, read_arrays, write_arrays
from conformask.storage.as_json import claim
from conformask.storage.atomic import remove_claimed
from conformask.storage.claims import refuse_unclaimed_in
from conformask.storage.exclusive import exclusive_folder, remove_if_empty
from conformask.storage.hashes import hash_of_parts, hash_of_text
from conformask.training.processes import Compute, launch
from conformask.types import Batch

RECORD, CONTENTS = "parts.json", "contents"
PART = 64
"""Number of images in a part: at most this many have to be repeated when a run is killed."""
Measure = Callable[[ScoredBatch], dict[str, Array]]


def check_parts(compute: Compute) -> None:
    """Refuse several processes without a folder that they share.

    Raises:
        InvalidArgumentError: there are several, and there is no folder for their parts.
    """
    if compute.parts is None and (compute.devices not in (1, "1") or compute.nodes > 1):
        raise InvalidArgumentError("several devices need a folder for their parts: Compute(parts=...)")


@contextmanager
def parts_folder(compute: Compute) -> Iterator[None]:
    """Own the folder of parts while they are made and used; keep it where a run can be resumed.

    Without a folder the measures are kept in memory, which are small. Images are never kept.

    Raises:
        InvalidArgumentError: several processes without a folder that they share.
        OutputError: another process makes parts in it, or something else lies there.
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

    Raises:
        MismatchError: parts that another process should have written are not there.
    """
    starts = range(0, len(triplets), PART)
    if compute.parts is None:
        items = _batches(scorer, triplets, starts)
        return concatenate(measure(item) for item in tracked(items, title, len(triplets), len))
    fingerprint = _fingerprint(scorer, triplets, key)
    folder = Path(compute.parts)
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
            write_arrays(files[place], concatenate(_with_contents(measure, item) for item in items))
    processes.wait()
    columns = concatenate(map(read_arrays, files))
    processes.wait()
    del columns[CONTENTS]
    return columns


def _batches(scorer: Scorer, triplets: Triplets, starts: range) -> Iterator[ScoredBatch]:
    for start in starts:
        yield from scored_batches(scorer, _part(triplets, start), BATCH_SIZE)


def _part(triplets: Triplets, start: int) -> Triplets:
    return triplets.select(range(start, min(start + PART, len(triplets))))


def _with_contents(measure: Measure, item: ScoredBatch) -> dict[str, Array]:
    return {**measure(item), CONTENTS: _contents(item.batch)}


def _contents(batch: Batch) -> Array:
    """Return for each image a hash of everything known about it."""
    images = (batch.x, batch.y_hat, batch.y, batch.region, batch.cues, batch.y_labels)
    columns = (batch.names, batch.category, batch.weight)

    def parts(place: int) -> Iterator[bytes]:
        for values in images:
            yield b"none" if values is None else values[place].cpu().numpy().tobytes()
        for column in columns:
            yield repr(column and column[place]).encode()

    return np.array([hash_of_parts(parts(place)) for place in range(len(batch))])


def _is_of(file: Path, images: Triplets) -> bool:
    """Return whether a part is finished, for exactly these images; damaged or other ones are made again."""
    with suppress(MismatchError):
        kept = read_arrays(file).get(CONTENTS) if file.is_file() else None
        return kept is not None and kept.tolist() == [
            each for batch in images.batches() for each in _contents(batch).tolist()
        ]
    return False


def _fingerprint(scorer: Scorer, triplets: Triplets, key: object) -> str:
    parts = repr((scorer.fingerprint, triplets.names, *triplets.reading.facts, key))
    return hash_of_text(parts)[:16]
