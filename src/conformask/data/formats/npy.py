"""NumPy's own files: arrays (H, W) or (H, W, C), mapped rather than read."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from conformask.data.formats.format import Format
from conformask.data.formats.opened import Opened, header_of, rows_of
from conformask.types import Array


@np.errstate(over="ignore")  # of absurd shapes, which the file is too short for
def open_npy(path: Path) -> AbstractContextManager[Opened]:
    """The array of a file."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    return nullcontext(
        Opened(header_of(mapped, str(path)), lambda: np.array(mapped), lambda: rows_of(mapped))
    )


def write_npy(path: Path, array: Array) -> None:
    """Write an array as it is."""
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


NPY = Format((".npy",), open_npy, write_npy, holds_floats=True)
