"""Masks of 16 bits, written block by block: OME-Zarr and OME-TIFF of any size, and PNG."""

import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np

from conformask.data.images import channels_last, write_png
from conformask.data.ome_zarr import create_mask
from conformask.errors import ImageError, chosen
from conformask.storage.whole import whole_file
from conformask.types import Array

BLOCK = 1024
LARGEST_TIFF = 2**32 - 2**25
"""Bytes from which on a TIFF has to be a BigTIFF."""
BUFFER = 2**25
"""Bytes that are compressed at once."""
Blocks = Iterator[tuple[slice, slice, Array]]
"""Rows, columns and values (C, h, w) uint16, in the order of `grid`."""
Shape = tuple[int, int, int]


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
    write = chosen(_WRITERS, path.suffix.lower(), "suffix")
    if shape[0] not in (1, 3) and path.suffix.lower() != ".zarr":
        raise ImageError(f"{path} cannot hold a mask of {shape[0]} channels, only of 1 or 3; OME-Zarr can")
    with whole_file(path) as aside:
        try:
            write(aside, shape, blocks)
            if path.is_dir():
                shutil.rmtree(path)
        except BaseException:
            if aside.is_dir():
                shutil.rmtree(aside)
            raise


def _write_zarr(path: Path, shape: Shape, blocks: Blocks) -> None:
    array = create_mask(path, shape, BLOCK)
    for rows, columns, block in blocks:
        array[:, rows, columns] = block


def _write_tiff(path: Path, shape: Shape, blocks: Blocks) -> None:
    import tifffile

    grey = shape[0] == 1
    tifffile.imwrite(
        path,
        (channels_last(block) for _, _, block in blocks),
        shape=shape[1:] if grey else (*shape[1:], shape[0]),
        dtype=np.uint16,
        tile=(BLOCK, BLOCK),
        photometric="minisblack" if grey else "rgb",
        compression="zlib",
        buffersize=BUFFER,
        bigtiff=2 * int(np.prod(shape)) > LARGEST_TIFF,
        metadata={"axes": "YX" if grey else "YXS"},
        ome=True,
    )


def _write_png(path: Path, shape: Shape, blocks: Blocks) -> None:
    whole = np.empty(shape, np.uint16)
    for rows, columns, block in blocks:
        whole[:, rows, columns] = block
    write_png(path, channels_last(whole))


_WRITERS: dict[str, Callable[[Path, Shape, Blocks], None]] = {
    ".zarr": _write_zarr,
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
    ".png": _write_png,
}
