"""Measures of a collection larger than memory: part by part, resumable, on several devices."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conformask.calibration import ScoredBatch, joined
from conformask.data.batches import BATCH_SIZE
from conformask.data.triplets import Triplets
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.progress import main_process, tracked
from conformask.scorers.scorer import Scorer
from conformask.scorers.scoring import scored_batches
from conformask.storage.as_arrays import read_arrays, write_arrays
from conformask.storage.as_json import claim
from conformask.storage.atomic import remove_claimed
from conformask.storage.claims import refuse_unclaimed_in
from conformask.storage.exclusive import exclusive_folder, remove_if_empty
from conformask.storage.hashes import hash_of_parts, hash_of_text
from conformask.training.processes import check_devices, together
from conformask.types import Array, Batch

RECORD, CONTENTS = "parts.json", "contents"
PART = 64
"""Number of images in a part: at most this many have to be repeated when a run is killed."""
Measure = Callable[[ScoredBatch], dict[str, Array]]


@dataclass(frozen=True)
class Streaming:
    """The folder of finished parts, and the devices for the work, which are passed to Lightning.

    Raises:
        InvalidArgumentError: several processes without a folder that they share, or too many devices.
    """

    folder: Path | None = None
    """Folder of parts; None keeps their measures in memory, which are small. Images are never kept."""
    devices: int | str = 1
    nodes: int = 1
    batch_size: int = BATCH_SIZE

    def __post_init__(self) -> None:
        check_devices(self.devices)
        if self.folder is None and (self.devices not in (1, "1") or self.nodes > 1):
            raise InvalidArgumentError("several devices need a folder for their parts")

    @contextmanager
    def parts(self) -> Iterator[None]:
        """Own the folder of parts while they are made and used; keep it where a run can be resumed.

        Raises:
            OutputError: another process makes parts in it, or something else lies there.
        """
        if self.folder is None:
            yield
            return
        used, record = False, self.folder / RECORD
        refuse_unclaimed_in(self.folder)
        try:
            with exclusive_folder(self.folder):
                yield
                used = True
        finally:
            if main_process() and (used or not any(self.folder.glob("part-*"))):
                remove_claimed(record)
                remove_if_empty(self.folder)


def gathered(
    scorer: Scorer, triplets: Triplets, measure: Measure, title: str, key: object, streaming: Streaming
) -> dict[str, Array]:
    """Compute the measures of all images, in their order, whatever the batches and processes.

    `key` identifies the measures; parts of a killed run are reused if it, the scorer and the images are the
    same.

    Raises:
        MismatchError: parts that another process should have written are not there.
    """
    starts = range(0, len(triplets), PART)
    if streaming.folder is None:
        items = _batches(scorer, triplets, starts, streaming.batch_size)
        return joined(measure(item) for item in tracked(items, title, len(triplets), len))
    fingerprint = _fingerprint(scorer, triplets, key)
    files = [streaming.folder / f"part-{fingerprint}-{start:08d}.npz" for start in starts]
    fabric = together(streaming.devices, streaming.nodes)
    if fabric.is_global_zero:
        claim(streaming.folder / RECORD, {}, [file.name for file in files])
    fabric.barrier()
    mine = range(fabric.global_rank, len(files), fabric.world_size)
    for place in tracked(mine, title, len(mine)):
        own = starts[place : place + 1]
        if not _is_of(files[place], _part(triplets, own[0])):
            items = _batches(scorer, triplets, own, streaming.batch_size)
            write_arrays(files[place], joined(_with_contents(measure, item) for item in items))
    fabric.barrier()
    columns = joined(map(read_arrays, files))
    fabric.barrier()
    del columns[CONTENTS]
    return columns


def _batches(scorer: Scorer, triplets: Triplets, starts: range, batch_size: int) -> Iterator[ScoredBatch]:
    for start in starts:
        yield from scored_batches(scorer, _part(triplets, start), batch_size)


def _part(triplets: Triplets, start: int) -> Triplets:
    return triplets.select(range(start, min(start + PART, len(triplets))))


def _with_contents(measure: Measure, item: ScoredBatch) -> dict[str, Array]:
    return {**measure(item), CONTENTS: _contents(item.batch)}


def _contents(batch: Batch) -> Array:
    """Return for each image a hash of everything known about it."""
    images = (batch.x, batch.y_hat, batch.y, batch.region)
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
