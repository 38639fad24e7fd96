"""OME-Zarr (NGFF 0.4 and 0.5): images of the highest resolution in, masks out. Needs the extra zarr."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from conformask.errors import ImageError, MissingFileError
from conformask.types import Array

NGFF = "0.5"
AXES = ("t", "c", "z", "y", "x")
SHOWN = 3
"""How many missing chunks an error names."""


@dataclass(frozen=True)
class Level:
    """The highest resolution of an OME-Zarr image."""

    path: Path
    array: Any
    """The zarr array."""
    axes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        sides = dict(zip(self.axes, self.array.shape, strict=True))
        return sides.get("c", 1), sides["y"], sides["x"]

    def rows(self, top: int, bottom: int) -> Array:
        """Rows, (h, W) or (h, W, C), in the file's type.

        Raises:
            ImageError: a chunk cannot be decoded.
        """
        whole = {"c": slice(None), "y": slice(top, bottom), "x": slice(None)}
        try:
            read: Array = np.asarray(self.array[tuple(whole.get(axis, 0) for axis in self.axes)])
        except Exception as error:  # zarr's codecs share no type of error
            raise ImageError(
                f"{self.path}: rows {top} to {bottom} cannot be read ({error}); a chunk may be truncated, "
                "copy the folder again"
            ) from error
        return np.moveaxis(read, 0, -1) if read.ndim == 3 else read


def open_level(path: Path) -> Level:
    """The image of an OME-Zarr folder, all of its chunks there.

    zarr reads chunks that are not there as black, and a mask would vouch for it.

    Raises:
        MissingFileError: the extra zarr is not installed.
        ImageError: the folder is no OME-Zarr image of one plane, or chunks of it are missing.
    """
    group = _group(path)
    metadata = group.attrs.get("ome", group.attrs)
    try:
        image = metadata["multiscales"][0]
        axes = tuple(axis["name"] if isinstance(axis, dict) else str(axis) for axis in image["axes"])
        level = Level(path, group[image["datasets"][0]["path"]], axes)
    except (KeyError, IndexError, TypeError) as error:
        raise ImageError(
            f"{path} is no OME-Zarr image: it has no multiscales with axes and datasets ({error}); "
            "write it with an OME-Zarr writer of NGFF 0.4 or 0.5"
        ) from error
    _check_axes(level)
    _check_chunks(level)
    return level


def decode_zarr(path: Path) -> Array:
    """The pixels, in the file's own type, (H, W) or (H, W, C)."""
    level = open_level(path)
    return level.rows(0, level.shape[1])


def _group(path: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise MissingFileError(f"{path} needs zarr: pip install 'conformask[zarr]'") from error
    try:
        return zarr.open_group(path, mode="r")
    except Exception as error:  # of many types, for a folder that is damaged or something else
        raise ImageError(f"{path} is no OME-Zarr image ({error}); copy the folder again") from error


def _check_axes(level: Level) -> None:
    axes, shape = level.axes, level.array.shape
    sides = dict(zip(axes, shape, strict=False))
    known = len(axes) == len(shape) and list(axes) == [axis for axis in AXES if axis in axes]
    if not known or axes[-2:] != ("y", "x") or sides.get("t", 1) * sides.get("z", 1) != 1:
        raise ImageError(
            f"{level.path} has axes {', '.join(axes)} of shape {shape}; an image has y, x, before them c, "
            "and t and z of length 1: write each plane to a file of its own"
        )


def _check_chunks(level: Level) -> None:
    missing = [key for key in _keys(level.array) if not (level.path / level.array.path / key).is_file()]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise ImageError(
            f"{level.path} is missing chunks {', '.join(missing[:SHOWN])}{more} of array "
            f"{level.array.path!r}: copy it again. If its writer left out empty chunks, write it with "
            "write_empty_chunks=True"
        )


def _keys(array: Any) -> Iterator[str]:
    chunks = array.shards or array.chunks
    counts = (range(ceil(side / chunk)) for side, chunk in zip(array.shape, chunks, strict=True))
    return (array.metadata.encode_chunk_key(place) for place in product(*counts))


def create_mask(path: Path, shape: tuple[int, int, int], block: int) -> Any:
    """A new OME-Zarr image (C, H, W) of 16 bits, chunks (1, block, block): the array to write to."""
    import zarr

    axes = [{"name": "c", "type": "channel"}, *({"name": side, "type": "space"} for side in "yx")]
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    image = {"name": "mask", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    attributes = {"ome": {"version": NGFF, "multiscales": [image]}}
    group = zarr.create_group(path, zarr_format=3, attributes=attributes)
    return group.create_array(
        "0",
        shape=shape,
        chunks=(1, min(block, shape[1]), min(block, shape[2])),
        dtype="uint16",
        dimension_names=["c", "y", "x"],
        config={"write_empty_chunks": True},
    )
