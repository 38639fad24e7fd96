"""PNG and JPEG files, told apart by their content: alpha dropped, palettes looked up, turned upright."""

import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL.Image import Exif
from PIL.JpegImagePlugin import JpegImageFile

from conformask.data.formats.format import Blocks, Format, Shape, SourceImage, rounded_down
from conformask.data.formats.header import (
    ORIENTATION,
    Header,
    ImageHandle,
    channels_last,
    orientation_of,
    range_of_bits,
    upright,
    warn_transparent,
)
from conformask.errors import ImageError
from conformask.records.reading import Reading
from conformask.storage.as_arrays import Array

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
