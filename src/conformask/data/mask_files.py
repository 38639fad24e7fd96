"""Masks of 16 bits, written block by block: OME-Zarr and OME-TIFF of any size, and PNG."""

import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from conformask.data.formats import BY_SUFFIX
from conformask.data.formats.format import Blocks, Shape
from conformask.data.formats.png_jpeg import PNG
from conformask.errors import ImageError, chosen
from conformask.storage.whole import whole_file

BLOCK = 1024
"""Side of a block, in pixels."""


WRITERS = {
    suffix: (each.write_blocks, each.any_channels) for suffix, each in BY_SUFFIX.items() if each.write_blocks
}


def mask_suffix(suffix: str) -> str:
    """Of the mask beside an image whose name ends so, such as .tif or .ome.tif."""
    return BY_SUFFIX.get(f".{suffix.rpartition('.')[2]}", PNG).mask_suffix or suffix


def grid(size: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each block, row by row."""
    sides = [[slice(at, min(at + BLOCK, side)) for at in range(0, side, BLOCK)] for side in size]
    return product(*sides)


def write_blocks(path: Path, shape: Shape, blocks: Blocks) -> None:
    """Write an image (C, H, W), whole or not at all; a PNG is put together in memory first.

    Raises:
        InvalidArgumentError: another suffix than .zarr, .tif, .tiff and .png.
        ImageError: a TIFF or PNG of other than 1 or 3 channels.
        OutputError: the file cannot be written.
    """
    write, any_channels = chosen(WRITERS, path.suffix.lower(), "suffix")
    if shape[0] not in (1, 3) and not any_channels:
        raise ImageError(f"{path} cannot hold a mask of {shape[0]} channels, only of 1 or 3; OME-Zarr can")
    with whole_file(path) as aside:
        try:
            write(aside, shape, blocks, BLOCK)
            if path.is_dir():
                shutil.rmtree(path)
        except BaseException:
            if aside.is_dir():
                shutil.rmtree(aside)
            raise
