"""Whether the files of a saved masker are still those that were saved together."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from conformask.errors import MismatchError
from conformask.results import read_json, write_json

CHECKSUMS = "checksums.json"
SEALED = ("calibration.json", "curves.npz", "scorer.json", "scorer.safetensors")


def seal(folder: Path) -> None:
    """Write checksums.json: the SHA-256 of each file that the masks come from."""
    write_json(folder / CHECKSUMS, {"sha256": {name: _sha256(folder / name) for name in _there(folder)}})


def verify(folder: Path) -> None:
    """Refuse a masker of which a file was changed, or exchanged for that of another.

    Raises:
        MismatchError: names the file. A folder without checksums.json is not checked.
    """
    if not (folder / CHECKSUMS).is_file():
        return
    sums = read_json(folder / CHECKSUMS, ["sha256"])["sha256"]
    if not isinstance(sums, Mapping):
        raise MismatchError(f"{folder / CHECKSUMS} is damaged: copy the whole folder anew")
    for name, expected in sums.items():
        if not (folder / name).is_file() or _sha256(folder / name) != expected:
            raise MismatchError(
                f"{folder / name} is not the file that was saved with this masker: its promise is void. "
                "Calibrate again, or copy the whole folder anew"
            )


def _there(folder: Path) -> list[str]:
    return [name for name in SEALED if (folder / name).is_file()]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
