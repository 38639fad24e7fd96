"""NumPy's own files: arrays (H, W) or (H, W, C), or of the given axes; npy files are mapped, not read.

An npz holds one array.
"""

import zipfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock

import numpy as np

from conformask.data.formats.format import Format, time_point
from conformask.data.formats.header import Header, ImageHandle, image_of_array, window_of
from conformask.data.memory import check_memory
from conformask.errors import ImageError
from conformask.records.reading import Reading
from conformask.storage.as_arrays import Array

_ONE_AT_A_TIME = Lock()
"""Lock around NumPy's header parser: its ast.literal_eval fails at random under threads in CPython 3.11."""


def open_npy(path: Path, reading: Reading, time: int | None) -> AbstractContextManager[ImageHandle]:
    """Open the array of a file, which is mapped."""
    array, header = _image(path, _mapped(path), reading, time)
    return nullcontext(ImageHandle(header, lambda: np.array(array), lambda: window_of(array)))


def open_npz(path: Path, reading: Reading, time: int | None) -> AbstractContextManager[ImageHandle]:
    """Open the only array of a file, which is decompressed on demand."""
    placeholder = _placeholder(path)
    size = placeholder.size * placeholder.dtype.itemsize
    check_memory(f"{path}, {placeholder.shape} of {placeholder.dtype},", size)

    def decode() -> Array:
        with _ONE_AT_A_TIME, np.load(path, allow_pickle=False) as arrays:
            return _image(path, arrays[arrays.files[0]], reading, time)[0]

    return nullcontext(ImageHandle(_image(path, placeholder, reading, time)[1], decode))


def _image(path: Path, array: Array, reading: Reading, time: int | None) -> tuple[Array, Header]:
    """Return the image, or one time point of it, and its header, from an array as it is stored."""
    axes, count = reading.axes, _times(array, reading.axes)
    if axes is not None and "T" in axes and count is None:
        raise ImageError(f"{path} has shape {array.shape}, which does not match the given axes {axes}")
    time = time_point(path, count, time)
    if axes is not None and "T" in axes:
        array, axes = array.take(time, axis=axes.index("T")), axes.replace("T", "")
    return image_of_array(array, str(path), axes)


def _times(array: Array, axes: str | None) -> int | None:
    """Return the length of the axis T, if the axes match the array and have one; else None."""
    return array.shape[axes.index("T")] if axes and "T" in axes and array.ndim == len(axes) else None


@np.errstate(over="ignore")  # of absurd shapes, which the file is too short for
def _mapped(path: Path) -> Array:
    with _ONE_AT_A_TIME:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _placeholder(path: Path) -> Array:
    """Return an array without memory that has the shape and type of the only one in an npz."""
    with _ONE_AT_A_TIME, zipfile.ZipFile(path) as file:
        names = file.namelist()
        if len(names) != 1:
            raise ImageError(
                f"{path} contains the arrays {names}; an image must be a single array: write it as npy"
            )
        with file.open(names[0]) as member:
            version = np.lib.format.read_magic(member)
            readers = {(1, 0): np.lib.format.read_array_header_1_0}
            shape, _, dtype = readers.get(version, np.lib.format.read_array_header_2_0)(member)
    return np.broadcast_to(np.empty((), dtype), shape)


def times_of_npy(path: Path, reading: Reading) -> int | None:
    """Return the length of the axis T, if the given axes have one; else None."""
    array = _placeholder(path) if path.suffix.lower() == ".npz" else _mapped(path)
    return _times(array, reading.axes)


def write_npy(path: Path, array: Array) -> None:
    """Write an array as it is."""
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


NPY = Format(open_npy, write_npy, holds_floats=True, times=times_of_npy)
NPZ = Format(open_npz, times=times_of_npy)
