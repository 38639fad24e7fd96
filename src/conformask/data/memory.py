"""Memory and disk space for images: limits checked before any work, and arrays in temporary files."""

import os
import shutil
import tempfile
import weakref
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from conformask.errors import ImageError, InvalidArgumentError, OutputError
from conformask.storage.as_arrays import Array

MAX_IMAGE_BYTES = 2 * 2**30
"""Largest size of an image as float32, unless the environment variable VARIABLE sets another."""
VARIABLE = "CONFORMASK_MAX_IMAGE_BYTES"
FLOAT32 = 4
"""Bytes per value in memory."""
SMALL = 2**22
"""Largest array, in bytes, that is kept in memory without a file."""


def check_memory(item: str, size: int) -> None:
    """Raise if an item, as messages call it, takes more bytes of memory than allowed.

    Raises:
        ImageError: it takes more.
        InvalidArgumentError: the environment variable is not a number of bytes.
    """
    limit = _limit()
    if size > limit:
        raise ImageError(
            f"{item} takes {size} bytes of memory, but only {limit} are allowed: cut it into smaller "
            f"images, or set CONFORMASK_MAX_IMAGE_BYTES to {size}"
        )


def _limit() -> int:
    value = os.environ.get(VARIABLE, str(MAX_IMAGE_BYTES))
    if not (value.isascii() and value.isdigit()):
        raise InvalidArgumentError(f"{VARIABLE} is {value!r}; give a number of bytes, such as 4294967296")
    return int(value)


def check_disk(
    item: str,
    size: int,
    folder: Path | None = None,
    remedy: str = "set TMPDIR to another folder",
    error: type[ImageError | OutputError] = OutputError,
) -> None:
    """Raise if a folder, by default the one for temporary files, has no room for an item of this many bytes.

    Raises:
        OutputError: it has less; or the given error.
    """
    folder = folder or Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    if free < size:
        raise error(
            f"{item} needs {size / 1e9:.1f} GB in {folder}, but only {free / 1e9:.1f} GB are free: {remedy}"
        )


class DiskArray:
    """An array in an unnamed temporary file, mapped again for each window, so that no window stays in memory.

    With `reserve` a full disk raises an OSError at once; without it the file grows with what is written. A
    small array needs no file.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], folder: Path | None = None, reserve: bool = False
    ) -> None:
        self.shape, self.dtype = shape, dtype
        size = prod(shape) * dtype.itemsize
        self._small = np.zeros(shape, dtype) if size <= SMALL else None
        if self._small is not None:
            return
        self._file = file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, file.close)
        # a write to a mapped page for which the disk has no room would kill the process (SIGBUS)
        if reserve and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        file.truncate(size)

    def mapped(self) -> Array:
        """Return the whole array, mapped; touched parts stay in memory as long as a view of it."""
        if self._small is not None:
            return self._small
        return np.memmap(self._file, self.dtype, "r+", shape=self.shape)

    def __getitem__(self, places: tuple[slice, ...]) -> Array:
        return np.array(self.mapped()[places])

    def __setitem__(self, places: tuple[slice, ...], values: Array) -> None:
        self.mapped()[places] = values


def zeros_on_disk(item: str, shape: tuple[int, ...], folder: Path | None = None) -> Array:
    """Return zeros, float32, in a temporary file, whose pages the system may drop from memory.

    Raises:
        OutputError: the disk has no room for them; the message calls them `item`.
    """
    check_disk(item, FLOAT32 * prod(shape), folder)
    return DiskArray(shape, np.dtype(np.float32), folder).mapped()
