"""Masks as OME-TIFF, tiled, with physical sizes and a pyramid; and images of float32 with such sizes."""

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from conformask.data.formats.format import Blocks, Shape, SourceImage, rounded_down
from conformask.data.formats.header import channels_last
from conformask.data.formats.ome import interval_of_imagej, interval_of_xml, planes_of_xml
from conformask.data.formats.pyramid import blocks_of, fill_level, halved, plane_halvings
from conformask.data.memory import DiskArray
from conformask.records.geometry import Geometry
from conformask.storage.as_arrays import Array

LARGEST = 2**32 - 2**25
"""Largest estimated size, in bytes, of a TIFF that is not a BigTIFF."""
BUFFER = 2**25
"""Number of bytes that are compressed at once."""
TILE = 1024
"""Largest side of a tile, in pixels."""
STEP = 16
"""Divisor of the sides of tiles."""
SUFFIXES = (".tif", ".tiff")
STATED = ("DeltaT", "PositionX", "PositionY", "PositionZ")
PLANE = (*STATED, *(f"{name}Unit" for name in STATED))
"""Attributes of each plane that a mask takes from its image: when and where it was taken."""
FLAT = 1024
"""Side, in pixels: a mask whose plane fits into it has no pyramid."""


def write_tiff_blocks(path: Path, shape: Shape, blocks: Blocks, block: int, under: SourceImage) -> None:
    """Write a mask of 16 bits as a tiled OME-TIFF, [T][Z]YX or [T][Z]YXS, using a temporary file.

    A large mask, but for labels, has smaller levels, y and x halved, as SubIFDs.

    Raises:
        OSError: the disk is full.
    """
    import tifffile

    level = _level(path, shape)
    for places, values in blocks:
        level[:, *places] = rounded_down(values)
    steps = list(plane_halvings(shape[1:])) if max(shape[-2:]) > FLAT and not under.is_labels else []
    film = "T" if under.is_film else ""
    metadata = {
        "axes": film + "ZYX"[len(film) - len(shape) + 1 :] + ("S" if shape[0] > 1 else ""),
        "Name": _name(under),
        **_sizes(under.geometry),
        **_times_and_places(under, shape),
    }
    bigtiff = 3 * prod(shape) > LARGEST  # 2 bytes each, and a third more for the smaller levels
    with tifffile.TiffWriter(path, bigtiff=bigtiff, ome=True) as file:
        file.write(**_arguments(level), subifds=len(steps), metadata=metadata)
        for factors in steps:
            smaller = _level(path, (shape[0], *halved(level.shape[1:], factors)))
            fill_level(smaller, level, (1, *factors), (shape[0], *_block(smaller)))
            level = smaller
            file.write(**_arguments(level), subfiletype=1)


def _name(under: SourceImage) -> str:
    of = f" of {under.path.name}" if under.path else ""
    return f"trusted objects{of}" if under.is_labels else f"mask{of}, 1 = trusted"


def write_tiff_over(path: Path, image: Array, under: SourceImage) -> None:
    """Write an image (C, *space) as float32, an OME-TIFF with the physical sizes of its source."""
    import tifffile

    metadata = {"axes": "C" + "ZYX"[1 - image.ndim :], **_sizes(under.geometry)}
    tifffile.imwrite(
        path,
        image.astype(np.float32),
        ome=True,
        photometric="minisblack",
        compression="zlib",
        metadata=metadata,
    )


def _level(path: Path, shape: Shape) -> DiskArray:
    return DiskArray(shape, np.dtype(np.uint16), path.parent, reserve=True)


def _block(level: DiskArray) -> tuple[int, ...]:
    """Return the sides of a tile along the spatial axes."""
    planes = (1,) * (len(level.shape) - 3)
    return (*planes, *(min(TILE, -(-side // STEP) * STEP) for side in level.shape[-2:]))


def _arguments(level: DiskArray) -> dict[str, Any]:
    """Return arguments of tifffile's write for a level (C, *space), written tile by tile."""
    channels, *space = level.shape
    return {
        "data": _tiles(level),
        "shape": space if channels == 1 else [*space, channels],
        "dtype": level.dtype,
        "tile": _block(level)[-2:],
        "photometric": "minisblack" if channels == 1 else "rgb",
        "compression": "zlib",
        "compressionargs": {"level": 1},  # higher ones take longer and make noise no smaller
        "buffersize": BUFFER,
    }


def _tiles(level: DiskArray) -> Iterator[Array]:
    """Yield each tile, (h, w) or (h, w, C), in the order of the file."""
    for places in blocks_of(level.shape[1:], _block(level)):
        tile = channels_last(level[:, *places])
        yield tile.reshape(tile.shape[len(places) - 2 :])


def _times_and_places(under: SourceImage, shape: Shape) -> Mapping[str, Any]:
    """Return times and places of the planes of the TIFF under a mask, by their names in OME-XML."""
    import tifffile

    source, time = under.file_and_time
    if source is None or source.suffix.lower() not in SUFFIXES or not source.is_file():
        return {}
    with tifffile.TiffFile(source) as file:
        if not file.is_ome:
            return interval_of_imagej(file.imagej_metadata or {}) if under.is_film else {}
        xml = file.ome_metadata or ""
    times, stated = range(shape[1]) if under.is_film else [time or 0], planes_of_xml(xml)
    depth = prod(shape[1:-2]) // len(times)
    attributes = [stated.get((str(time), str(z)), {}) for time in times for z in range(depth)]
    planes = [{name: plane[name] for name in PLANE if name in plane} for plane in attributes]
    interval = interval_of_xml(xml) if under.is_film else {}
    return {**interval, "Plane": planes} if any(planes) else interval


def _sizes(geometry: Geometry | None) -> dict[str, float | str]:
    """Return physical sizes and their units, by their names in OME-XML."""
    sizes: dict[str, float | str] = {}
    if geometry is not None:
        for axis, step in zip("ZYX"[-len(geometry.spacing) :], geometry.spacing, strict=True):
            sizes |= {f"PhysicalSize{axis}": step, f"PhysicalSize{axis}Unit": geometry.unit}
    return sizes
