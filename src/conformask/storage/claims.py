"""conformask removes or replaces a file only if a record of its own claims it by name.

A record is a JSON file that begins as write_json begins it. It claims itself, the names that it lists under
"files" and "replaced", relative to its folder, and those that belong to every record of its name (BESIDE). A
page, picture or model that stands alone says in its first bytes who made it (SIGNATURES), and thereby claims
itself.
"""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePath

from conformask.errors import OutputError

OWN_NAME = ".conformask"
"""How the names of unfinished files and of locks begin."""
SIGNATURES = (
    b'"conformask": "',  # JSON
    b'<meta name="generator" content="conformask',  # HTML
    b"Software\0conformask",  # PNG
    b"\x12\x0aconformask",  # ONNX
)
LISTS = ("files", "replaced")
"""Keys of a record under which it lists names."""
BEGINNING = 2048
"""Bytes at the beginning of a file in which its signature stands."""
BESIDE = {
    "training.json": ("metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.safetensors"),
    "scorer.json": ("scorer.safetensors", "selection.npz", "looks.npz"),
    "predictor.json": ("predictor.safetensors",),
    "calibration.json": ("CARD.md",),
}
"""Files that lie beside each record of a name, whether it lists them or not."""


def refuse_unclaimed(paths: Iterable[Path]) -> None:
    """Refuse to write where something lies that conformask did not write; an empty folder is nothing.

    Raises:
        OutputError: names the first that no record claims.
    """
    for path in paths:
        if os.path.lexists(path) and not _is_empty_folder(path) and not is_claimed(path):
            raise OutputError(
                f"{path} is in the way: no record of conformask claims it, so that it is neither replaced "
                "nor removed; move it, or choose another folder"
            )


def places(folder: Path, *records: str) -> list[Path]:
    """Where records of these names lie in a folder, and the files beside each."""
    return [folder / name for record in records for name in (record, *BESIDE.get(record, ()))]


def refuse_unclaimed_in(folder: Path) -> None:
    """Refuse a folder that holds something that conformask did not write; hidden files do not count.

    Raises:
        OutputError: names the first.
    """
    with suppress(NotADirectoryError, FileNotFoundError):
        refuse_unclaimed(sorted(path for path in folder.iterdir() if not path.name.startswith(".")))
        return
    refuse_unclaimed([folder])


def is_claimed(path: Path) -> bool:
    """Whether a record claims a file, or a folder that counts as one, such as an OME-Zarr."""
    if path.name.startswith(OWN_NAME) or _is_signed(path):
        return True
    return any(path.relative_to(folder).as_posix() in claimed_in(folder) for folder in _above(path))


def claimed_in(folder: Path) -> set[str]:
    """The names, relative to a folder, that the records in it claim."""
    return {name for record in folder.glob("*.json") for name in claimed_by(record)}


def claimed_by(record: Path) -> tuple[str, ...]:
    """The names, relative to its folder, that a record claims beside its own; none where it is not ours.

    A name that leads out of the folder is ignored: a record that was copied from elsewhere may say anything.
    """
    if not _is_signed(record):
        return ()
    content: object = None
    with suppress(ValueError, OSError, RecursionError):
        content = json.loads(record.read_text(encoding="utf-8"))
    lists = [content.get(key) for key in LISTS] if isinstance(content, dict) else []
    listed = [name for names in lists if isinstance(names, list | dict) for name in names]
    inside = [name for name in listed if isinstance(name, str) and _stays_inside(name)]
    return (*BESIDE.get(record.name, ()), *inside)


def _is_signed(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        beginning = file.read(BEGINNING)
        return any(signature in beginning for signature in SIGNATURES)
    return False


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def _stays_inside(name: str) -> bool:
    path = PurePath(name)
    return not path.is_absolute() and not path.drive and ".." not in path.parts


def _above(path: Path) -> Iterable[Path]:
    """The two folders above a file: a record lies beside it, or beside its folder."""
    return islice((parent for parent in path.parents), 2)
