"""Image files of every format to arrays of the file's own type, (*space) or (*space, C), upright.

Whatever opens a file raises a MissingFileError if there is none, and an ImageError if it cannot be decoded,
has several time points of which none is named, or takes more memory than allowed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conformask.data.formats import format_of, image_suffixes, suffix_of
from conformask.data.formats.format import at_time as at_time
from conformask.data.formats.header import Header, ImageHandle, Places, Window, window_of
from conformask.data.memory import FLOAT32, check_memory
from conformask.errors import ConformaskError, ImageError, MissingFileError, failure_of_system
from conformask.records.reading import PLAIN, Reading
from conformask.storage.as_arrays import Array


def decode(path: Path, reading: Reading = PLAIN) -> Array:
    """Return the pixels of a file, in the file's own type, (*space) or (*space, C)."""
    return decode_with_header(path, reading)[0]


def decode_with_header(path: Path, reading: Reading = PLAIN) -> tuple[Array, Header]:
    """Return the pixels, as decode does, and the header of the file."""
    with _open(path, reading) as image:
        return _whole(path, image), image.header


def read_header(path: Path, reading: Reading = PLAIN) -> Header:
    """Return the header of a file's image, as decode_with_header does."""
    with _open(path, reading) as image:
        return image.header


def open_window(path: Path, reading: Reading = PLAIN) -> Window:
    """Return a function that reads windows of what decode would return.

    OME-Zarr, npy and plain NIfTI are read on demand; a compressed TIFF is decoded once, into a
    temporary file; the others are decoded whole.
    """
    with _open(path, reading) as image:
        header, read = image.header, image.window() if image.window else window_of(_whole(path, image))

    def window(places: Places) -> Array:
        with _readable(path):
            sides = tuple(len(range(side)[span]) for side, span in zip(header.space, places, strict=True))
            return _checked(path, read(places), header, sides)

    return window


def times_of(path: Path, reading: Reading = PLAIN) -> int | None:
    """Return the number of time points of a file; None without an axis of time, or if `path` names one.

    It is None, too, where the header cannot be read: whoever reads the file gets that error.
    """
    file, time = at_time(path)
    kind = format_of(file)
    if time is not None or kind is None or kind.times is None:
        return None
    try:
        return kind.times(file, reading)
    except Exception:  # of any type, as readers raise them
        return None


def companions_of(path: Path) -> list[Path]:
    """Return the other files in which pixels of a file lie."""
    kind = format_of(path)
    if kind is None or kind.companions is None:
        return []
    with _readable(path):
        return kind.companions(path)


def name_and_suffix(path: Path) -> tuple[str, str]:
    """Return ("NAME", ".ome.tif") for NAME.ome.tif, ("NAME_t003", ".tif") for one time, NAME.tif#t=3."""
    file, time = at_time(path)
    suffix = suffix_of(file)
    stem = file.name[: len(file.name) - len(suffix)]
    return stem if time is None else f"{stem}_t{time:03d}", suffix


def is_image(path: Path) -> bool:
    """Return whether the path could be read as an image: an image file, or a folder that is one image."""
    kind = format_of(path)
    return kind is not None and (os.path.isdir(path) if kind.is_folder else os.path.isfile(path))


@contextmanager
def _open(path: Path, reading: Reading) -> Iterator[ImageHandle]:
    file, time = at_time(path)
    if not (os.path.isfile(file) or os.path.isdir(file)):
        raise MissingFileError(f"{path} does not exist")
    kind = format_of(file)
    if kind is None:
        raise ImageError(
            f"{file} has the suffix {file.suffix!r}; names of images must end with "
            f"{', '.join(image_suffixes())}"
        )
    if time is not None and kind.times is None:
        raise ImageError(f"{path}: files of this type have no time points: leave out #t={time}")
    with _readable(path), kind.open(file, reading, time) as image:
        if image.header.values == 0:
            raise ImageError(f"{path} has shape {image.header.shape} (C, *space), so it has no pixels")
        if image.window is None:
            _check_memory(path, image.header)
        yield image


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise errors of the readers of formats as ImageError."""
    try:
        yield
    except ConformaskError:
        raise
    except Exception as error:
        failure = failure_of_system(error)
        if failure is not None:
            raise ImageError(f"{path} cannot be read, {failure}") from error
        raise ImageError(
            f"{path} cannot be read as an image ({error}): it may be truncated; write it again"
        ) from error


def _check_memory(path: Path, header: Header) -> None:
    check_memory(f"{path}, {header.shape} (C, *space) in float32,", FLOAT32 * header.values)


def _whole(path: Path, image: ImageHandle) -> Array:
    _check_memory(path, image.header)
    return _checked(path, image.decode(), image.header, image.header.space)


def _checked(path: Path, array: Array, header: Header, space: tuple[int, ...]) -> Array:
    """Return the pixels if their shape is as the header says; else raise ImageError."""
    whole = array[..., None] if array.ndim == len(space) else array
    if whole.shape != (*space, header.channels):
        raise ImageError(
            f"{path} has shape {array.shape}, but its header states {header.shape} (C, *space); write "
            "it again"
        )
    return array
