"""Claims: conformask removes or replaces a file only if one of its own records claims it by name.

A record is a JSON file that begins as write_json begins it. It claims itself, the names that it lists under
"files" and "replaced", relative to its folder, and those that belong to every record of its name (BESIDE). A
page, picture or model that stands alone says in its first bytes who made it (SIGNATURES), and thereby claims
itself.
"""

import json
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path, PurePath

from conformask.errors import OutputError

OWN_NAME = ".conformask"
"""Beginning of the names of unfinished files and of locks."""
RECORD = re.compile(rb'\s*{\s*"schema": \d+,\s*"conformask": "')
"""Pattern of the beginning of a record."""
SVG_SIGNATURE = "<!-- conformask -->"
"""The first line of an SVG file that stands alone."""
SIGNATURES = (
    SVG_SIGNATURE.encode(),
    b'<meta name="generator" content="conformask',  # HTML
    b"Software\0conformask",  # PNG
    b"\x12\x0aconformask",  # ONNX
)
BEGINNING = 2048
"""Number of bytes at the beginning of a file that may hold its signature."""
LISTS = ("files", "replaced")
"""Keys of a record under which it lists names."""
BESIDE = {
    "training.json": ("metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.safetensors"),
    "scorer.json": ("scorer.safetensors", "selection.npz", "looks.npz"),
    "predictor.json": ("predictor.safetensors",),
    "calibration.json": ("CARD.md",),
}
"""Files that lie beside each record of a name, whether it lists them or not."""


def refuse_unclaimed(paths: Iterable[Path]) -> None:
    """Raise if something lies at one of these paths that conformask did not write, except an empty folder.

    Raises:
        OutputError: names the first that no record claims, or that could not be written.
    """
    claimed = cache(claimed_in)  # a folder is asked once per file in it
    for path in paths:
        refuse_unwritable(path)
        if os.path.lexists(path) and not _is_empty_folder(path) and not is_claimed(path, claimed):
            raise OutputError(
                f"{path} is in the way: no record of conformask claims it, so it is neither replaced nor "
                "removed; move it, or choose another folder"
            )


def check_output(path: Path) -> None:
    """Raise, before the work, if a file could not be written here.

    Raises:
        OutputError: something is in the way, or the folder cannot be written to.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder: give the name of a file")
    refuse_unclaimed([path])


def refuse_unwritable(path: Path) -> None:
    """Raise if no file can be made here.

    Raises:
        OutputError: what should be its folder is a file, or is read-only.
    """
    folder = next(each for each in path.absolute().parents if os.path.lexists(each))
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        reason = "may not be written to" if folder.is_dir() else "is not a folder"
        raise OutputError(f"cannot write {path}: {folder} {reason}; choose another folder")


def refuse_unclaimed_in(folder: Path) -> None:
    """Raise for a folder that holds something that conformask did not write; hidden files are ignored.

    Raises:
        OutputError: names the first.
    """
    with suppress(NotADirectoryError, FileNotFoundError):
        refuse_unclaimed(sorted(path for path in folder.iterdir() if not path.name.startswith(".")))
        return
    refuse_unclaimed([folder])


def places(folder: Path, *records: str) -> list[Path]:
    """Return the paths of records with these names in a folder, and of the files beside each."""
    return [folder / name for record in records for name in (record, *BESIDE.get(record, ()))]


def claimed_in(folder: Path) -> frozenset[str]:
    """Return the names, relative to a folder, that the records in it claim."""
    return frozenset(name for record in folder.glob("*.json") for name in claimed_by(record))


def is_claimed(path: Path, claimed: Callable[[Path], frozenset[str]] = claimed_in) -> bool:
    """Return whether a record claims a file, or a folder that counts as one, such as an OME-Zarr.

    The record lies beside it, or beside its folder.
    """
    if path.name.startswith(OWN_NAME) or _is_signed(path):
        return True
    return any(path.relative_to(above).as_posix() in claimed(above) for above in islice(path.parents, 2))


def claimed_by(record: Path) -> tuple[str, ...]:
    """Return the names, relative to its folder, that a record claims besides its own; () for other files.

    A name that leads out of the folder is ignored: a record that was copied from elsewhere may say anything.
    """
    content: object = None
    with suppress(ValueError, OSError, RecursionError):
        text = record.read_bytes()
        content = json.loads(text) if RECORD.match(text) else None
    if not isinstance(content, dict):
        return ()
    lists = [names for names in map(content.get, LISTS) if isinstance(names, list | dict)]
    listed = [name for names in lists for name in names if isinstance(name, str)]
    return (*BESIDE.get(record.name, ()), *_inside(record.parent, listed))


def _inside(folder: Path, names: Iterable[str]) -> Iterable[str]:
    """Yield the names that lead to files in a folder, and not out of it through a link."""

    @cache
    def holds(parent: PurePath) -> bool:
        return (folder / parent).resolve().is_relative_to(folder.resolve())

    return (name for name in names if PurePath(name).name not in ("", "..") and holds(PurePath(name).parent))


def _is_signed(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        beginning = file.read(BEGINNING)
        return bool(RECORD.match(beginning)) or any(each in beginning for each in SIGNATURES)
    return False


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())
