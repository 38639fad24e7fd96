"""Named arrays as npz, never pickled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from conformask.errors import MismatchError, failure_of_system
from conformask.storage.atomic import atomic_write, existing
from conformask.storage.hashes import hash_of_parts

Array = np.ndarray[Any, np.dtype[Any]]


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write named arrays to an npz.

    Raises:
        TypeError: one holds objects, which would be pickled.
    """
    objects = [name for name, array in arrays.items() if np.asarray(array).dtype.hasobject]
    if objects:
        raise TypeError(f"{objects[0]} holds Python objects, which no record does")
    with atomic_write(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # of newer NumPy, for another keyword


def read_arrays(path: Path) -> dict[str, Array]:
    """Read a file of write_arrays; never unpickles.

    Raises:
        MissingFileError: there is no such file.
        MismatchError: the file is damaged.
    """
    existing(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # the type depends on where it is damaged
        failure = failure_of_system(error)
        if failure is not None:
            raise MismatchError(f"{path} cannot be read, {failure}") from error
        raise MismatchError(f"{path} is damaged ({error}): copy it again") from error


def hash_of_arrays(arrays: Mapping[str, Array]) -> str:
    """Return the SHA-256 of names, types, shapes and values."""
    return hash_of_parts(
        f"{name}{values.dtype.str}{values.shape}".encode() + np.ascontiguousarray(values).tobytes()
        for name, values in sorted(arrays.items())
    )
