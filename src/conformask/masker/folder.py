"""A folder of masks: masks.json names the masker and claims the files, sizes.csv lists the images.

Masks of two promises, or of images that are gone, never lie side by side. sizes.csv grows with each image, so
that a killed run can be resumed; at the end it is rewritten in the order of the images.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from threading import Lock

from conformask.errors import MismatchError, OutputError
from conformask.records.numbers import plural
from conformask.records.record import (
    OWN_NAME,
    Json,
    as_cell,
    atomic_write,
    claim,
    claimed_by,
    from_cell,
    read_json,
    refuse_unclaimed,
    refuse_unclaimed_in,
    remove,
    remove_claimed,
)
from conformask.records.upgrade import named

CLAIM, SIZES, MASKS, OVERLAYS = "masks.json", "sizes.csv", "masks", "overlays"
SEGMENTATIONS, LABELS, OBJECTS = "segmentations", "labels", "objects"
OBJECT_TABLE = "objects.csv"
SIZES_OF = f"{OWN_NAME}.sizes-"
"""Beginning of the names of the temporary sizes files of all processes but the first."""


@dataclass(frozen=True)
class MaskRow:
    """A line of sizes.csv; loss and within are empty where the truth is not known."""

    name: str
    mask_size: float
    source: str
    """Hash of the image as it was masked."""
    loss: float | None = None
    """Loss under the mask."""
    within: bool | None = None
    """True if the loss meets the threshold."""
    used: bool | None = None
    """True if an earlier step has seen the image: its loss says nothing about new ones. See `pixel_ids`."""
    bound: float | None = None
    """Largest possible difference between output and truth without a mask; see Masker.error_bounds."""
    released: bool | None = None
    """True if the image is released under its mask; None if that was not asked."""
    p_value: float | None = None
    """P-value of "the image, or its group, misses the threshold"; see release()."""
    outlier: str = ""
    """Why the image is far outside of all calibration images; empty where it is not."""


TRUTH = {"": None, "True": True, "False": False}
"""What a cell of sizes.csv says of a condition."""
COLUMNS = tuple(column.name for column in fields(MaskRow))


@dataclass(frozen=True)
class MaskFolder:
    """A folder of masks, overlays and sizes.csv; each of several processes keeps its lines until the end."""

    path: Path
    process: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def claim(self, promise: Mapping[str, Json], files: Iterable[Path], *, overwrite: bool) -> None:
        """Record in masks.json the promise of the masks and their files, before the first is written.

        Keep the readable lines of sizes.csv: a damaged one would swallow those to come.

        Args:
            promise: the promise, with the fingerprint of the masker.
            files: all files that may exist at some time, in the folders of this one.
            overwrite: remove what masks.json claims for another promise, or for other images.
        """
        self.refuse_unclaimed()
        record = self.path / CLAIM
        names = [path.relative_to(self.path).as_posix() for path in files]
        trouble = self._trouble(str(promise["fingerprint"]), set(names))
        if trouble and not overwrite:
            raise MismatchError(
                f"{self.path} {trouble}: choose another folder, or use --overwrite (overwrite=True)"
            )
        if trouble:
            remove_claimed(record)
        claim(record, promise, [SIZES, *names], sealed=True)
        self.write(list(self.lines().values()), grows=True)

    def refuse_unclaimed(self) -> None:
        """Raise if the folder holds anything, where masks go, that its masks.json does not claim."""
        refuse_unclaimed(self.path / name for name in (CLAIM, SIZES, OBJECT_TABLE))
        for folder in (MASKS, OVERLAYS, SEGMENTATIONS, LABELS, OBJECTS):
            refuse_unclaimed_in(self.path / folder)

    def _trouble(self, fingerprint: str, names: set[str]) -> str | None:
        record = self.path / CLAIM
        existing = [name for name in claimed_by(record) if (self.path / name).exists()]
        if record.is_file() and read_json(record).get("fingerprint") != fingerprint:
            return "contains masks of another promise" if existing else None
        stray_names = sorted(name for name in existing if name.startswith(f"{MASKS}/") and name not in names)
        if not stray_names:
            return None
        others = plural(len(stray_names), "other image")
        return f"contains masks of {others}, such as {Path(stray_names[0]).name}"

    def lines(self) -> dict[str, MaskRow]:
        """Read sizes.csv, by name; lines that a killed run left incomplete are ignored."""
        lines: dict[str, MaskRow] = {}
        for sizes in self._all_sizes():
            with (
                suppress(FileNotFoundError, csv.Error),
                sizes.open(newline="", encoding="utf-8", errors="replace") as file,
            ):
                for row in csv.DictReader(line for line in file if line.endswith("\n")):
                    with suppress(ValueError, KeyError, TypeError):
                        line = _line(row)
                        lines[line.name] = line
        return lines

    def check_claimed(self) -> None:
        """Raise if the folder was moved away during the run: no record would claim what is written now."""
        if not (self.path / CLAIM).is_file():
            raise OutputError(f"{self.path / CLAIM} has disappeared since the run began: repeat the command")

    def add(self, line: MaskRow) -> None:
        """Append a line; safe to call from any thread."""
        self.check_claimed()
        path = self.path / (f"{SIZES_OF}{self.process}.csv" if self.process else SIZES)
        with self._lock:
            if not path.exists():
                _write(path, COLUMNS, [])
            with path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerow(_cells(line).values())

    def write(self, lines: Sequence[MaskRow], *, grows: bool = False) -> None:
        """Write the whole of sizes.csv, and remove the files of other processes.

        Columns that are empty for all images are left out, unless the file still grows.
        """
        cells = [*map(_cells, lines)]
        filled = COLUMNS if grows else [name for name in COLUMNS if any(row[name] for row in cells)]
        _write(self.path / SIZES, filled, cells)
        for sizes in self._all_sizes()[1:]:
            remove(sizes)

    def _all_sizes(self) -> list[Path]:
        """Return sizes.csv, and the existing ones of other processes."""
        return [self.path / SIZES, *sorted(self.path.glob(f"{SIZES_OF}*.csv"))]


def _write(path: Path, columns: Sequence[str], cells: Iterable[Mapping[str, str]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(cells)


def _cells(line: MaskRow) -> dict[str, str]:
    """Return the text of each of COLUMNS, in their order."""
    texts = {name: "" if value is None else str(value) for name, value in vars(line).items()}
    return texts | {"name": str(as_cell(line.name)), "mask_size": f"{line.mask_size:.6f}"}


def _line(row: Mapping[str, str]) -> MaskRow:
    """Read a line; what was released is not read, since every run writes it again."""
    row = named(row)
    within, used = (TRUTH[row.get(name, "")] for name in ("within", "used"))
    loss, bound = (float(row[name]) if row.get(name) else None for name in ("loss", "bound"))
    size, outlier = float(row["mask_size"]), row.get("outlier") or ""
    return MaskRow(from_cell(row["name"]), size, row["source"], loss, within, used, bound, outlier=outlier)
