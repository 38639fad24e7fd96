"""Masks of 16 bits, written block by block, in the type and the place of the image that they lie over."""

from collections.abc import Iterator
from pathlib import Path

from conformask.data.formats import FOLDER, FORMATS, format_of, known_suffix
from conformask.data.formats.format import Blocks, Shape, SourceImage
from conformask.data.formats.header import Places
from conformask.data.formats.png_jpeg import PNG
from conformask.data.formats.pyramid import blocks_of
from conformask.errors import ImageError, chosen
from conformask.records.size import Size
from conformask.storage.atomic import atomic_write

BLOCK = 1024
"""Side of a block of a plane, in pixels."""
DEEP = 128
"""Side of a block of a volume, in voxels."""
OF_VOLUMES = ".ome.tif"
"""Suffix of masks of volumes, where the image's own type cannot hold them."""


def mask_suffix(suffix: str, volume: bool = False) -> str:
    """Return the suffix of masks of images with this suffix, such as .ome.tif; "" is a folder without one."""
    kind = (format_of(Path(f"mask{suffix}")) if suffix else FORMATS.get(FOLDER)) or PNG
    own_suffix = kind.mask_suffix or suffix
    writer = format_of(Path(f"mask{own_suffix}"))
    return OF_VOLUMES if volume and not (writer and writer.volumes) else own_suffix


def side_of_block(size: Size) -> int:
    """Return the side of the blocks of an image of this size."""
    return BLOCK if len(size) == 2 else DEEP


def grid(size: Size, block: int | None = None) -> Iterator[Places]:
    """Return the places of the blocks, row by row, plane by plane; their side defaults to that in files."""
    return blocks_of(size, (block or side_of_block(size),) * len(size))


def write_blocks(path: Path, shape: Shape, blocks: Blocks, under: SourceImage) -> None:
    """Write a mask (C, *space), or (C, T, *space) of a time series, from its blocks, wholly or not at all.

    Raises:
        InvalidArgumentError: a suffix that no mask file has.
        ImageError: a mask of channels or axes that the file cannot hold.
        OutputError: the file cannot be written.
    """
    kind = FORMATS.get(known_suffix(path))
    if kind is None or kind.write_blocks is None:
        writers = {suffix: kind for suffix, kind in FORMATS.usable().items() if kind.write_blocks}
        kind = chosen(writers, known_suffix(path), "suffix")
    assert kind.write_blocks is not None
    if shape[0] not in (1, 3) and not kind.any_channels:
        raise ImageError(
            f"{path} cannot store a mask with {shape[0]} channels, only with 1 or 3; OME-Zarr can"
        )
    space = shape[2 if under.is_film else 1 :]
    if len(space) > 2 and not kind.volumes:
        raise ImageError(f"{path} cannot store the mask of a volume; OME-TIFF, OME-Zarr and NIfTI can")
    with atomic_write(path) as aside:
        kind.write_blocks(aside, shape, blocks, side_of_block(space), under)
