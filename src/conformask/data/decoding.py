"""Image files of every format to arrays of the file's own type, (H, W) or (H, W, C), upright."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conformask.data.formats import IMAGE_SUFFIXES, format_of
from conformask.data.formats.opened import Header, Opened, Rows, rows_of
from conformask.data.limits import FLOAT32, check_memory
from conformask.errors import ConformaskError, ImageError, MissingFileError
from conformask.types import Array


def decode(path: Path) -> Array:
    """The pixels of a file, in the file's own type, (H, W) or (H, W, C).

    Raises:
        MissingFileError: there is no such file.
        ImageError: it cannot be decoded, is a stack of images, or takes more memory than allowed.
    """
    return decode_with_header(path)[0]


def decode_with_header(path: Path) -> tuple[Array, Header]:
    """As decode, and what the file says of its pixels."""
    with _opened(path) as image:
        return _whole(path, image), image.header


def read_header(path: Path) -> Header:
    """The header of a file's image, as decode would give it.

    Raises:
        MissingFileError: there is no such file.
        ImageError: its header cannot be read, it is a stack of images, or a PNG or JPEG that takes more
            memory than allowed.
    """
    with _opened(path) as image:
        return image.header


def open_rows(path: Path) -> Rows:
    """The pixels of a file, rows at a time, as decode would give them.

    OME-Zarr and npy are read as they are asked for; a compressed TIFF is decoded once, into a temporary file;
    PNG and JPEG are decoded whole.

    Raises:
        MissingFileError: there is no such file.
        ImageError: it cannot be decoded, is a stack of images, or takes more memory than allowed.
    """
    with _opened(path) as image:
        header, read = image.header, image.rows() if image.rows else rows_of(_whole(path, image))

    def rows(top: int, bottom: int) -> Array:
        with _readable(path):
            return _checked(path, read(top, bottom), header, len(range(header.height)[top:bottom]))

    return rows


def name_and_suffix(path: Path) -> tuple[str, str]:
    """("NAME", ".ome.tif") of NAME.ome.tif, ("NAME", ".png") of NAME.png."""
    stem, suffix = path.stem, path.suffix.lower()
    return (stem[:-4], f".ome{suffix}") if stem.lower().endswith(".ome") and stem[:-4] else (stem, suffix)


def is_image(path: Path) -> bool:
    """Whether there is something that could be read: an image file, or the folder of an OME-Zarr image."""
    kind = format_of(path)
    return kind is not None and (os.path.isdir(path) if kind.is_folder else os.path.isfile(path))


@contextmanager
def _opened(path: Path) -> Iterator[Opened]:
    if not (os.path.isfile(path) or os.path.isdir(path)):
        raise MissingFileError(f"{path} does not exist")
    kind = format_of(path)
    if kind is None:
        raise ImageError(f"{path} has the suffix {path.suffix!r}; images end in {', '.join(IMAGE_SUFFIXES)}")
    with _readable(path), kind.open(path) as image:
        if image.header.values == 0:
            raise ImageError(f"{path} holds {image.header.shape} (C, H, W), an image without pixels")
        if image.rows is None:
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
        raise ImageError(
            f"{path} cannot be read as an image ({error}); it may be truncated, write it again"
        ) from error


def _check_memory(path: Path, header: Header) -> None:
    check_memory(f"{path}, {header.shape} (C, H, W) in float32,", FLOAT32 * header.values)


def _whole(path: Path, image: Opened) -> Array:
    _check_memory(path, image.header)
    return _checked(path, image.decode(), image.header, image.header.height)


def _checked(path: Path, array: Array, header: Header, height: int) -> Array:
    """The rows, if they are what the header says."""
    if array.ndim not in (2, 3) or (*array.shape, 1)[:3] != (height, header.width, header.channels):
        raise ImageError(
            f"{path} holds {array.shape}, and its header says {header.shape} (C, H, W); write it again"
        )
    return array
