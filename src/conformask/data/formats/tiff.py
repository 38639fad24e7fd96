"""TIFF files of one image, grey or RGB: every strip and tile there, palettes looked up, turned upright."""

import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from conformask.data.formats.format import Blocks, Format, Shape
from conformask.data.formats.opened import (
    ORIENTATION,
    Header,
    Opened,
    Rows,
    bits_of,
    channels_last,
    orientation_of,
    range_of,
    range_of_bits,
    upright,
)
from conformask.data.limits import check_memory
from conformask.errors import ImageError
from conformask.types import Array

PALETTE = 3
"""Photometric interpretation."""
JPEG = (6, 7, 33007, 34892)
"""Compressions that come out as RGB where YCbCr went in, unless its planes are apart."""
ALPHA = (1, 2)
"""Extra samples that say how opaque a pixel is."""
SHOWN = 3
"""How many missing strips or tiles an error names."""
LARGEST = 2**32 - 2**25
"""Bytes from which on a TIFF has to be a BigTIFF."""
BUFFER = 2**25
"""Bytes that are compressed at once."""


@contextmanager
def open_tiff(path: Path) -> Iterator[Opened]:
    """The only image of a TIFF file.

    Raises:
        ImageError: it is a stack, has other colours, or strips or tiles of it are missing.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        _check_chain(path, file)
        series = _only_image(path, file)
        _check_segments(path, series)
        channels, shown = _colours(path, series)
        orientation = orientation_of(series.keyframe.tags.valueof(ORIENTATION))

        def stored(out: str | None) -> Array:
            return upright(_channels_last(series.asarray(out=out), series.axes), orientation)

        def rows() -> Rows:
            _check_room(path, series)
            mapped = stored("memmap")
            return lambda top, bottom: shown(mapped[top:bottom])

        header = _header(path, series, channels)
        yield Opened(header.turned(orientation), lambda: shown(stored(None)), rows)


def _check_chain(path: Path, file: Any) -> None:
    """Each image says where the next one is; tifffile would follow a circle for ever."""
    kind, handle = file.tiff, file.filehandle
    offset, offsets = file.pages.first.offset, set[int]()
    with suppress(struct.error):  # the file ends here, and so does the chain
        while 0 < offset < handle.size:
            if offset in offsets:
                raise ImageError(f"{path} names an image as its own successor; it is damaged, write it again")
            offsets.add(offset)
            handle.seek(offset)
            count = struct.unpack(kind.tagnoformat, handle.read(kind.tagnosize))[0]
            handle.seek(count * kind.tagsize, os.SEEK_CUR)
            offset = struct.unpack(kind.offsetformat, handle.read(kind.offsetsize))[0]


def _only_image(path: Path, file: Any) -> Any:
    series = file.series[0]
    planes = [axis for axis in series.axes if axis not in "YXSC"]
    if len(file.series) != 1 or planes or {"S", "C"} <= set(series.axes):
        shapes = ", ".join(f"{each.axes} {each.shape}" for each in file.series)
        raise ImageError(f"{path} is a stack ({shapes}); write each plane to its own file")
    return series


def _check_segments(path: Path, series: Any) -> None:
    """tifffile reads what is not there as black, or as what lies in memory."""
    page = series.keyframe
    kind = "tile" if page.is_tiled else "strip"
    if prod(page.chunked) * prod(page.chunks) < prod(page.shape):
        raise ImageError(f"{path} has {kind}s for only some of its planes; write it again")
    missing = [str(index) for index in islice(_missing(series), SHOWN + 1)]
    if missing:
        more = " and more" if len(missing) > SHOWN else ""
        raise ImageError(
            f"{path} is missing {kind}s {', '.join(missing[:SHOWN])}{more}: copy it again. If its writer "
            f"left out empty {kind}s, write them as well"
        )
    if not page.is_contiguous:
        check_memory(f"a {kind} of {path}", prod(page.chunks) * series.dtype.itemsize)


def _missing(series: Any) -> Iterator[int]:
    """The strips or tiles that do not lie in the file with all of their bytes, counted through all planes."""
    page = series.keyframe
    count = prod(page.chunked)
    least = page.nbytes if page.is_contiguous and count == 1 else 1
    for plane, part in enumerate(series):
        places = () if part is None else zip(part.dataoffsets, part.databytecounts, strict=False)
        whole = [at > 0 and least <= size <= part.parent.filehandle.size - at for at, size in places]
        for index in range(count):
            if index >= len(whole) or not whole[index]:
                yield plane * count + index


def _check_room(path: Path, series: Any) -> None:
    """Rows are read from the file as it is, or from a temporary file, which a full disk would not bear."""
    if series.keyframe.is_memmappable:
        return
    free, needed = shutil.disk_usage(tempfile.gettempdir()).free, prod(series.shape) * series.dtype.itemsize
    if free < needed:
        raise ImageError(
            f"{path} needs {needed / 1e9:.1f} GB of {tempfile.gettempdir()}, where it is decoded, and "
            f"{free / 1e9:.1f} GB are free: set TMPDIR to another folder, or write it without compression"
        )


def _channels_last(array: Array, axes: str) -> Array:
    channel = next((index for index, axis in enumerate(axes) if axis in "SC"), None)
    return array if channel is None else np.moveaxis(array, channel, -1)


def _colours(path: Path, series: Any) -> tuple[int, Callable[[Array], Array]]:
    """The channels of the image, and what makes them of the stored numbers."""
    page, samples = series.keyframe, _samples(series)
    kind = getattr(page.photometric, "name", page.photometric)
    if kind == "PALETTE" and samples == 1:
        colours = (np.asarray(page.colormap) >> 8).astype(np.uint8).T
        return 3, lambda array: np.take(colours, array, axis=0)
    if kind == "RGB" and samples >= 3:
        return 3, lambda array: array[..., :3]
    if kind not in ("MINISBLACK", "MINISWHITE") and not (kind == "YCBCR" and _becomes_rgb(page)):
        raise ImageError(f"{path} has {kind} colours; save it as grey or RGB")
    with_alpha = samples == 2 and any(extra in ALPHA for extra in page.extrasamples[:1])
    flipped = _white_bits(path, series) if kind == "MINISWHITE" else None

    def grey(array: Array) -> Array:
        planes = array[..., 0] if with_alpha else array
        return planes if flipped is None else planes ^ flipped

    return 1 if with_alpha else samples, grey


def _samples(series: Any) -> int:
    sides = dict(zip(series.axes, series.shape, strict=True))
    return int(sides.get("S") or sides.get("C") or 1)


def _becomes_rgb(page: Any) -> bool:
    """Whether YCbCr is decoded to RGB; tifffile leaves it as it is in other files."""
    return page.compression in JPEG and page.planarconfig == 1


def _white_bits(path: Path, series: Any) -> Any:
    """The number that means black, where 0 is white."""
    if series.dtype.kind not in "bu":
        raise ImageError(f"{path} holds {series.dtype} and says that 0 is white; save it with 0 as black")
    return series.dtype.type(2 ** _bits(series) - 1)


def _bits(series: Any) -> int:
    """Of one sample; RGB of 5, 6 and 5 bits comes out as 8."""
    bits = series.keyframe.bitspersample
    return bits if isinstance(bits, int) else 8 * series.dtype.itemsize


def _header(path: Path, series: Any, channels: int) -> Header:
    """Of the stored pixels; colours of a palette have 8 bits, whatever their numbers have."""
    sides = dict(zip(series.axes, series.shape, strict=True))
    dtype, bits = series.dtype, _bits(series)
    if series.keyframe.photometric == PALETTE:
        dtype, bits = np.dtype(np.uint8), 8
    packed = dtype.kind == "u" and bits < 8 * dtype.itemsize <= 16
    data_range = range_of_bits(bits) if packed else range_of(dtype, str(path))
    return Header(channels, sides["Y"], sides["X"], bits_of(dtype), data_range)


def write_tiff(path: Path, array: Array) -> None:
    """Write integers (H, W) or (H, W, 3) of 8 or 16 bits."""
    import tifffile

    kind = "minisblack" if array.ndim == 2 else "rgb"
    tifffile.imwrite(path, array, photometric=kind, compression="zlib")


def write_tiff_blocks(path: Path, shape: Shape, blocks: Blocks, block: int) -> None:
    """Write a mask of 16 bits as a tiled OME-TIFF."""
    import tifffile

    grey = shape[0] == 1
    tifffile.imwrite(
        path,
        (channels_last(values) for _, _, values in blocks),
        shape=shape[1:] if grey else (*shape[1:], shape[0]),
        dtype=np.uint16,
        tile=(block, block),
        photometric="minisblack" if grey else "rgb",
        compression="zlib",
        buffersize=BUFFER,
        bigtiff=2 * prod(shape) > LARGEST,
        metadata={"axes": "YX" if grey else "YXS"},
        ome=True,
    )


TIFF = Format((".tif", ".tiff"), open_tiff, write_tiff, write_blocks=write_tiff_blocks, mask_suffix=None)
