"""The files of a saved masker: calibration.json and the arrays it names, sealed with the scorer's files."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from conformask.errors import MismatchError, MissingFileError, warn
from conformask.masker.remarks import remarks_on_run
from conformask.promises.order import Curves
from conformask.records.card import CalibrationCard
from conformask.records.record import (
    CALIBRATION,
    Array,
    Json,
    not_as_written,
    publish,
    read_arrays,
    read_json,
    read_published,
    to_jsonable,
    verify,
    verify_files,
)

CARD = "CARD.md"
LEVEL = "level/"
"""Beginning of the names of arrays of the model of levels."""
SCORER_FILES = ("scorer.json", "scorer.safetensors", "selection.npz", "looks.npz")


@dataclass(frozen=True)
class StoredMasker:
    """The parts of a saved masker, without its scorer."""

    card: CalibrationCard
    fingerprint: str
    """The fingerprint of the whole masker."""
    critical_lambdas: Array
    curves: Curves | None
    perceptual_hashes: Array | None
    probe: Mapping[str, Array] | None
    level: Mapping[str, Array] | None = None
    """The model of the level of each image; None where all have one lambda."""


def write_stored(folder: Path, stored: StoredMasker) -> None:
    """Replace the calibration in a folder atomically; the scorer's files must already be there."""
    curves = {} if stored.curves is None else stored.curves.arrays()
    if stored.perceptual_hashes is not None:
        curves["looks"] = stored.perceptual_hashes
    curves |= {LEVEL + name: values for name, values in (stored.level or {}).items()}
    publish(
        folder / CALIBRATION,
        {**stored.card.to_json(), "fingerprint": stored.fingerprint},
        {
            "curves": curves,
            "critical": {"critical_lambda": stored.critical_lambdas},
            "probe": stored.probe or {},
        },
        sealed=[name for name in SCORER_FILES if (folder / name).is_file()],
        outdated=folder / CARD,
    )


def mark_exploratory(card: CalibrationCard, folder: Path) -> CalibrationCard:
    """Return the card to be saved into a folder that may hold an earlier one.

    It is marked exploratory where the earlier card made another promise or was exploratory and was calibrated
    on some of the same images, or where some of its images are left out now.
    """
    if not (folder / CALIBRATION).is_file():
        return card
    earlier = CalibrationCard.from_json(read_json(folder / CALIBRATION), folder / CALIBRATION)
    changed = _chosen(earlier, card.thresholds) != _chosen(card, card.thresholds)
    before, now = set(earlier.calibrated_on), set(card.calibrated_on)
    chosen = bool(before & now) and (earlier.exploratory or changed or not before <= now)
    return replace(card, exploratory=card.exploratory or chosen)


def _chosen(card: CalibrationCard, table: tuple[float, ...] | None) -> tuple[object, ...]:
    """Return the choices of a person in a promise; a table leaves threshold and confidence open."""
    stated = replace(card.promise, confidence=None) if table else card.promise
    loss = to_jsonable(card.loss.to_json())
    chosen = loss, stated, card.thresholds, card.family, card.tiles, card.patches, card.level
    return chosen if table else (*chosen, card.threshold)


def read_stored(folder: Path) -> StoredMasker:
    """Read the files of write_stored, or of Masker.save of conformask 0.1."""
    path, record = folder / CALIBRATION, _calibration(folder)
    if _of_0_1(record):
        _verify_0_1(folder)
        arrays, probe = read_arrays(folder / "curves.npz"), None
    else:
        published = read_published(path, ("curves", "critical", "probe"))
        record, arrays = published.record, {**published.arrays["curves"], **published.arrays["critical"]}
        probe = published.arrays["probe"] or None
    if "critical_lambda" not in arrays:
        raise MismatchError(not_as_written(folder / "curves.npz"))
    return StoredMasker(
        CalibrationCard.from_json(record, path),
        str(record.get("fingerprint", "")),
        arrays["critical_lambda"],
        Curves.from_arrays(arrays) if "grid" in arrays else None,
        arrays.get("looks"),
        probe,
        {name.removeprefix(LEVEL): arrays[name] for name in arrays if name.startswith(LEVEL)} or None,
    )


def read_promise(folder: Path) -> tuple[CalibrationCard, str]:
    """Read the card and the fingerprint of the masker; other files are verified, not loaded."""
    record = _calibration(folder)
    if _of_0_1(record):
        _verify_0_1(folder)
    else:
        verify(folder / CALIBRATION, record)
    return CalibrationCard.from_json(record, folder / CALIBRATION), str(record.get("fingerprint", ""))


def _calibration(folder: Path) -> Mapping[str, Json]:
    path = folder / CALIBRATION
    if folder.is_dir() and not path.is_file():
        promised = [f"It promises no masks, but this: {text}" for text in remarks_on_run(folder)]
        missing = f"{folder} is not calibrated ({path.name} is missing): calibrate it first"
        raise MissingFileError(". ".join([missing, *promised]))
    return read_json(path)


def _of_0_1(record: Mapping[str, Json]) -> bool:
    return int(record["schema"]) == 1


def _verify_0_1(folder: Path) -> None:
    """Verify the files of a masker sealed by conformask 0.1, by its checksums.json."""
    path = folder / "checksums.json"
    if not path.is_file():
        warn(
            f"{folder} was saved without checksums, by an early version of conformask, so it cannot be "
            "checked whether its files belong together; save it again to seal it"
        )
        return
    sums = read_json(path, ["sha256"])["sha256"]
    if not isinstance(sums, Mapping):
        raise MismatchError(not_as_written(path))
    verify_files(folder, sums)
