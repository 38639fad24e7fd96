"""Arrays larger than memory, in an unnamed temporary file."""

import os
import tempfile
import weakref
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from conformask.types import Array

SMALL = 2**22
"""Largest array, in bytes, that is kept in memory without a file."""


class Scratch:
    """An array in a temporary file, mapped anew for each window, so that no window stays in memory.

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
