"""Image files of every format to arrays of the file's own type, (*space) or (*space, C), upright."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conformask.data.formats import IMAGE_SUFFIXES, format_of, suffix_of
from conformask.data.formats.format import at_time as at_time
from conformask.data.formats.opened import Header, Opened, Places, Window, window_of
from conformask.data.limits import FLOAT32, check_memory
from conformask.errors import ConformaskError, ImageError, MissingFileError, failure_of_system
from conformask.records.reading import PLAIN, Reading
from conformask.types import Array


def decode(path: Path, reading: Reading = PLAIN) -> Array:
    """The pixels of a file, in the file's own type, (*space) or (*space, C).

    Raises:
        MissingFileError: there is no such file.
        ImageError: it cannot be decoded, has several time points, or takes more memory than allowed.
    """
    return decode_with_header(path, reading)[0]


def decode_with_header(path: Path, reading: Reading = PLAIN) -> tuple[Array, Header]:
    """As decode, and what the file says of its pixels."""
    with _opened(path, reading) as image:
        return _whole(path, image), image.header


def read_header(path: Path, reading: Reading = PLAIN) -> Header:
    """The header of a file's image, as decode would give it.

    Raises:
        MissingFileError: there is no such file.
        ImageError: its header cannot be read, it has several time points, or a PNG or JPEG that takes more
            memory than allowed.
    """
    with _opened(path, reading) as image:
        return image.header


def open_window(path: Path, reading: Reading = PLAIN) -> Window:
    """The pixels of a file, a window at a time, as decode would give them.

    OME-Zarr, npy and plain NIfTI are read as they are asked for; a compressed TIFF is decoded once, into a
    temporary file; the others are decoded whole.

    Raises:
        MissingFileError: there is no such file.
        ImageError: it cannot be decoded, has several time points, or takes more memory than allowed.
    """
    with _opened(path, reading) as image:
        header, read = image.header, image.window() if image.window else window_of(_whole(path, image))

    def window(places: Places) -> Array:
        with _readable(path):
            sides = zip(header.space, places, strict=True)
            return _checked(path, read(places), header, tuple(len(range(side)[at]) for side, at in sides))

    return window


def times_of(path: Path, reading: Reading = PLAIN) -> int | None:
    """How many time points a file has; None where it has no axis of time, or one of them was asked for.

    None as well where its header cannot be read, which whoever reads it is told.
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
    """The other files in which pixels of a file lie.

    Raises:
        ImageError: the file cannot be read.
    """
    kind = format_of(path)
    if kind is None or kind.companions is None:
        return []
    with _readable(path):
        return kind.companions(path)


def name_and_suffix(path: Path) -> tuple[str, str]:
    """("NAME", ".ome.tif") of NAME.ome.tif, ("NAME", ".png") of NAME.png, ("NAME_t003", ...) of one time."""
    file, time = at_time(path)
    suffix = suffix_of(file)
    stem = file.name[: len(file.name) - len(suffix)]
    return stem if time is None else f"{stem}_t{time:03d}", suffix


def is_image(path: Path) -> bool:
    """Whether there is something that could be read: an image file, or a folder that is one image."""
    kind = format_of(path)
    return kind is not None and (os.path.isdir(path) if kind.is_folder else os.path.isfile(path))


@contextmanager
def _opened(path: Path, reading: Reading) -> Iterator[Opened]:
    file, time = at_time(path)
    if not (os.path.isfile(file) or os.path.isdir(file)):
        raise MissingFileError(f"{path} does not exist")
    kind = format_of(file)
    if kind is None:
        raise ImageError(f"{file} has the suffix {file.suffix!r}; images end in {', '.join(IMAGE_SUFFIXES)}")
    with _readable(path), kind.open(file, reading, time) as image:
        if image.header.values == 0:
            raise ImageError(f"{path} holds {image.header.shape} (C, *space), an image without pixels")
        if image.window is None:
            _check_memory(path, image.header)
        yield image


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What the readers of formats raise, as an ImageError."""
    try:
        yield
    except ConformaskError:
        raise
    except Exception as error:
        failure = failure_of_system(error)
        if failure is not None:
            raise ImageError(f"{path} cannot be read, {failure}") from error
        raise ImageError(
            f"{path} cannot be read as an image ({error}); it may be truncated, write it again"
        ) from error


def _check_memory(path: Path, header: Header) -> None:
    check_memory(f"{path}, {header.shape} (C, *space) in float32,", FLOAT32 * header.values)


def _whole(path: Path, image: Opened) -> Array:
    _check_memory(path, image.header)
    return _checked(path, image.decode(), image.header, image.header.space)


def _checked(path: Path, array: Array, header: Header, space: tuple[int, ...]) -> Array:
    """The pixels, if they are what the header says."""
    whole = array[..., None] if array.ndim == len(space) else array
    if whole.shape != (*space, header.channels):
        raise ImageError(
            f"{path} holds {array.shape}, and its header says {header.shape} (C, *space); write it again"
        )
    return array
