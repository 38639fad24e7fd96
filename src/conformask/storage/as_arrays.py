"""Named arrays as npz, never pickled."""

import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from conformask.errors import MismatchError, MissingFileError
from conformask.storage.whole import whole_file

Array = np.ndarray[Any, np.dtype[Any]]


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write named arrays to an npz."""
    with whole_file(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, Array]:
    """Read what write_arrays wrote; never unpickles.

    Raises:
        MissingFileError: there is no such file.
        MismatchError: the file is damaged.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; is {path.parent} the right folder?")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, EOFError, BadZipFile, zlib.error, KeyError, OverflowError, MemoryError) as error:
        raise MismatchError(f"{path} is damaged ({error}): copy it again") from error


def hash_of_arrays(arrays: Mapping[str, Array]) -> str:
    """The SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        digest.update(
            f"{name}{values.dtype.str}{values.shape}".encode() + np.ascontiguousarray(values).tobytes()
        )
    return digest.hexdigest()
