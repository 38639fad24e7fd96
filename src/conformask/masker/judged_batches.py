"""The batches that were judged, which a run folder remembers, so that none is tried in several ways."""

from pathlib import Path

from conformask.data.images import hash_unless_constant, is_constant
from conformask.data.triplets import Triplets
from conformask.errors import MismatchError
from conformask.masker.data_leakage import refuse_used
from conformask.masker.masker import Masker
from conformask.progress import tracked
from conformask.records.release import JudgedBatch, JudgedBatches, Release
from conformask.storage.as_arrays import hash_of_arrays
from conformask.storage.as_json import hash_of, read_json, write_json
from conformask.storage.exclusive import exclusive_folder
from conformask.storage.typed import from_dict
from conformask.types import Triplet
from conformask.wording.numbers import plural

RECORD = "released.json"
"""The file of a run folder that lists the batches."""


def identified(masker: Masker, images: Triplets) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read new images; return the `pixels` and the `units` of their batch.

    Raises:
        CalibrationError: images that were used for training, selection or calibration.
    """
    ids, batch = [], []
    names = images.groups if masker.guarantee.by_group else images.names
    of_units: dict[str, list[str]] = {name: [] for name in names}
    for name, triplet in zip(
        names, tracked(images.checked(), "reading new images", len(images)), strict=True
    ):
        ids.append(hash_unless_constant(triplet.y_hat if triplet.y is None else triplet.y))
        pixels, contents = _hashes(triplet)
        of_units[name].append(contents)
        batch.append((pixels, name))
    refuse_used(masker, images, ids, "new", "a release")
    hashes = sorted((pixels, hash_of(sorted(of_units[name]))) for pixels, name in batch)
    return tuple(pixels for pixels, _ in hashes), tuple(unit for _, unit in hashes)


def _hashes(triplet: Triplet) -> tuple[str, str]:
    """Return a hash to recognise an image by, "" if all is constant, and one of all that it is judged by."""
    images = {"x": triplet.x, "y_hat": triplet.y_hat, "cues": triplet.cues, "region": triplet.region}
    known = {role: image for role, image in images.items() if image is not None}
    contents = hash_of_arrays(known)
    is_blank = all(is_constant(image) for role, image in known.items() if role != "region")
    return hash_unless_constant(triplet.y_hat) or ("" if is_blank else contents), contents


def remember(run: Path, released: Release) -> None:
    """Record in a run folder what was judged; refuse images that were judged before in another way.

    A share that is chosen, or a batch that is cut, after p-values were seen promises nothing. The same
    release may be repeated.

    Raises:
        MismatchError: images of this batch were in another batch, or judged with other settings, maps or
            groups; or the record is damaged.
        OutputError: another process writes the record, or it cannot be written.
    """
    with exclusive_folder(run, RECORD):
        batches = refuse_judged(run, released.batch)
        if released.batch not in batches:
            write_json(run / RECORD, {"batches": [*batches, released.batch]})


def refuse_judged(run: Path, batch: JudgedBatch) -> tuple[JudgedBatch, ...]:
    """Return the batches that a run folder records; raise if images of this one were in another."""
    path = run / RECORD
    try:
        judged = from_dict(JudgedBatches, read_json(path), path).batches if path.is_file() else ()
    except MismatchError as error:
        raise MismatchError(
            f"{error}. If that is impossible, move it away and release only images that were never judged"
        ) from error
    for earlier in judged:
        if common := batch.judged_in(earlier):
            raise MismatchError(
                f"{common} of these {plural(len(batch.pixels), 'image')} were judged before, in a batch of "
                f"{len(earlier.pixels)} with share {earlier.share:g} ({path}): nothing is promised where "
                "share, masker, maps, groups or batch are chosen after looking. Repeat that release as it "
                "was, or give images that were not judged yet"
            )
    return judged
