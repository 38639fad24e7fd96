"""NumPy's files, PNG and JPEG.

Arrays are (H, W) or (H, W, C), or of the given axes. An npy file is mapped, not read; an npz holds one array.
"""

import struct
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from PIL.Image import Exif
from PIL.JpegImagePlugin import JpegImageFile

from conformask.errors import ImageError
from conformask.images.formats import (
    ORIENTATION,
    Blocks,
    Format,
    Header,
    ImageHandle,
    Shape,
    SourceImage,
    channels_last,
    check_memory,
    image_of_array,
    orientation_of,
    range_of_bits,
    rounded_down,
    time_point,
    upright,
    warn_transparent,
    window_of,
)
from conformask.records.reading import Reading
from conformask.records.record import Array

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


SIGNATURE, OF_JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
GREY = (0, 4)
"""Colour types of a grey PNG, without and with alpha."""
ALPHA = (4, 6)
Chunks = list[tuple[bytes, int, int]]
"""Kind, start and end of each complete chunk of a PNG."""


def open_png_or_jpeg(path: Path, reading: Reading, time: int | None) -> AbstractContextManager[ImageHandle]:
    """Open a PNG or JPEG file, whichever of their suffixes it has."""
    with path.open("rb") as file:
        beginning = file.read(len(SIGNATURE))
    if beginning == SIGNATURE:
        return _open_png(path)
    if not beginning.startswith(OF_JPEG):
        raise ValueError("it is neither a PNG nor a JPEG file")
    return _open_jpeg(path)


@contextmanager
def _open_jpeg(path: Path) -> Iterator[ImageHandle]:
    with JpegImageFile(path) as image:  # Pillow's open has its own limit
        mode = "L" if image.mode == "L" else "RGB"
        orientation = orientation_of(image.getexif().get(ORIENTATION))
        yield ImageHandle(
            Header(len(mode), (image.height, image.width), 8, range_of_bits(8), is_lossy=True).turned(
                orientation
            ),
            lambda: upright(np.asarray(image if image.mode == mode else image.convert(mode)), orientation),
        )


@contextmanager
def _open_png(path: Path) -> Iterator[ImageHandle]:
    with path.open("rb") as file:
        chunks = list(_chunks(file))
        if int.from_bytes(_content(file, chunks, b"acTL")[:4], "big") > 1:
            raise ImageError(f"{path} is an animation; save the frame that you want as a separate image")
        width, height, depth, colour_type = struct.unpack(">IIBB", _content(file, chunks, b"IHDR")[:10])
        exif = Exif()
        exif.load(_content(file, chunks, b"eXIf"))
        orientation, bits = orientation_of(exif.get(ORIENTATION)), 16 if depth == 16 else 8
        header = Header(1 if colour_type in GREY else 3, (height, width), bits, range_of_bits(bits))
        yield ImageHandle(
            header.turned(orientation),
            lambda: upright(_decode_png(path, file, chunks, colour_type in ALPHA), orientation),
        )


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    start, size = len(SIGNATURE), file.seek(0, 2)
    while start + 12 <= size:
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8))
        end = start + 12 + length
        if end <= size:
            yield kind, start, end
        start = end


def _content(file: BinaryIO, chunks: Chunks, kind: bytes) -> bytes:
    """Return the content of the first chunk of this kind; empty where there is none."""
    spans = ((start + 8, end - 4) for of_chunk, start, end in chunks if of_chunk == kind)
    return _read(file, *next(spans, (0, 0)))


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _decode_png(path: Path, file: BinaryIO, chunks: Chunks, has_alpha: bool) -> Array:
    """Decode a PNG from its critical chunks by libpng, which verifies checksums and keeps 16 bits."""
    import imagecodecs

    # from tRNS, an ancillary chunk (in lower case), libpng would make a channel of alpha
    critical = [_read(file, start, end) for kind, start, end in chunks if kind[:1].isupper()]
    array: Array = imagecodecs.png_decode(b"".join([SIGNATURE, *critical]))
    if not has_alpha:
        return array
    warn_transparent(path, array[..., -1:])
    return array[..., 0] if array.shape[2] == 2 else array[..., :3]


def write_png(path: Path, array: Array) -> None:
    """Write integers (H, W) or (H, W, 3) of 8 or 16 bits."""
    import imagecodecs

    png = imagecodecs.PNG
    content = imagecodecs.png_encode(array, level=1, strategy=png.STRATEGY.RLE, filter=png.FILTER.SUB)
    path.write_bytes(content)  # other settings take up to three times as long and save a few percent


def write_jpeg(path: Path, array: Array) -> None:
    """Write bytes (H, W) or (H, W, 3), for display."""
    import imagecodecs

    path.write_bytes(imagecodecs.jpeg_encode(np.ascontiguousarray(array), level=90))


def write_png_blocks(path: Path, shape: Shape, blocks: Blocks, block: int, under: SourceImage) -> None:
    """Write a mask of 16 bits, assembled in memory first."""
    mask = np.empty(shape, np.uint16)
    for places, values in blocks:
        mask[:, *places] = rounded_down(values)
    write_png(path, channels_last(mask))


PNG = Format(open_png_or_jpeg, write_png, write_blocks=write_png_blocks)
JPEG = Format(open_png_or_jpeg)
