"""OME-Zarr (NGFF 0.4 and 0.5): images of the highest resolution in, masks out. Needs the extra zarr."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np

from conformask.data.formats.format import Blocks, Format, Shape
from conformask.data.formats.opened import Header, Opened, bits_of, range_of
from conformask.data.limits import check_memory
from conformask.errors import ImageError, MissingFileError
from conformask.types import Array

NGFF = "0.5"
AXES = ("t", "c", "z", "y", "x")
SHOWN = 3
"""How many missing chunks an error names."""
BLOSC_HEADER = 16
"""Bytes, the last four of them the length of the chunk."""


@dataclass(frozen=True)
class Level:
    """The highest resolution of an OME-Zarr image."""

    path: Path
    array: Any
    """The zarr array."""
    axes: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where its chunks lie."""
        return self.path / str(self.array.path)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        sides = dict(zip(self.axes, self.array.shape, strict=True))
        return sides.get("c", 1), sides["y"], sides["x"]

    def rows(self, top: int, bottom: int) -> Array:
        """Rows, (h, W) or (h, W, C), in the file's type.

        Raises:
            ImageError: a chunk cannot be decoded, or they take more memory than allowed.
        """
        channels, _, width = self.shape
        size = self.array.dtype.itemsize * channels * (bottom - top) * width
        check_memory(f"{self.path}, rows {top} to {bottom},", size)
        whole = {"c": slice(None), "y": slice(top, bottom), "x": slice(None)}
        try:
            self._check_blosc(top, bottom)
            read: Array = np.asarray(self.array[tuple(whole.get(axis, 0) for axis in self.axes)])
        except Exception as error:  # zarr's codecs share no type of error
            raise ImageError(
                f"{self.path}: rows {top} to {bottom} cannot be read ({error}); a chunk may be truncated, "
                "copy the folder again"
            ) from error
        return np.moveaxis(read, 0, -1) if read.ndim == 3 else read

    def keys(self, top: int, bottom: int) -> Iterator[str]:
        """The files of the chunks, or shards, that hold these rows."""
        chunks = dict(zip(self.axes, self.array.shards or self.array.chunks, strict=True))
        sides = dict(zip(self.axes, self.array.shape, strict=True))
        ends = sides | {"y": bottom}
        starts = dict.fromkeys(self.axes, 0) | {"y": top // chunks["y"]}
        spans = [range(starts[axis], ceil(ends[axis] / chunks[axis])) for axis in self.axes]
        return (self.array.metadata.encode_chunk_key(place) for place in _places(spans))

    def _check_blosc(self, top: int, bottom: int) -> None:
        """Blosc reads past the end of a truncated chunk and takes the memory there for pixels."""
        codecs = () if self.array.shards else self.array.compressors[-1:]
        if not any("Blosc" in type(codec).__name__ for codec in codecs):
            return
        for key in self.keys(top, bottom):
            with (self.folder / key).open("rb") as file:
                stated, size = int.from_bytes(file.read(BLOSC_HEADER)[12:], "little"), file.seek(0, 2)
            if max(stated, BLOSC_HEADER) != size:
                raise ValueError(f"chunk {key} has {size} bytes of {stated}")


def open_level(path: Path) -> Level:
    """The image of an OME-Zarr folder, all of its chunks there.

    zarr reads chunks that are not there as black, and a mask would vouch for it.

    Raises:
        MissingFileError: the extra zarr is not installed.
        ImageError: the folder is not an OME-Zarr image of one plane, chunks of it are missing, or one takes
            more memory than allowed.
    """
    group = _group(path)
    metadata = group.attrs.get("ome", group.attrs)
    try:
        image = metadata["multiscales"][0]
        axes = tuple(axis["name"] if isinstance(axis, dict) else str(axis) for axis in image["axes"])
        level = Level(path, group[image["datasets"][0]["path"]], axes)
    except (KeyError, IndexError, TypeError) as error:
        raise ImageError(
            f"{path} is not an OME-Zarr image: it has no multiscales with axes and datasets ({error}); "
            "write it with an OME-Zarr writer of NGFF 0.4 or 0.5"
        ) from error
    _check_axes(level)
    check_memory(f"a chunk of {path}", level.array.dtype.itemsize * prod(level.array.chunks))
    _check_chunks(level)
    return level


def open_zarr(path: Path) -> AbstractContextManager[Opened]:
    """The image of an OME-Zarr folder, as open_level finds it."""
    level = open_level(path)
    dtype, (channels, height, width) = level.array.dtype, level.shape
    header = Header(channels, height, width, bits_of(dtype), range_of(dtype, str(path)))
    return nullcontext(Opened(header, lambda: level.rows(0, height), lambda: level.rows))


def _group(path: Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise MissingFileError(f"{path} needs zarr: pip install 'conformask[zarr]'") from error
    try:
        return zarr.open_group(path, mode="r")
    except Exception as error:  # of many types, for a folder that is damaged or something else
        raise ImageError(f"{path} is not an OME-Zarr image ({error}); copy the folder again") from error


def _check_axes(level: Level) -> None:
    axes, shape = level.axes, level.array.shape
    sides = dict(zip(axes, shape, strict=False))
    in_order = len(axes) == len(shape) and list(axes) == [axis for axis in AXES if axis in axes]
    if not in_order or axes[-2:] != ("y", "x") or sides.get("t", 1) * sides.get("z", 1) != 1:
        raise ImageError(
            f"{level.path} has axes {', '.join(axes)} of shape {shape}; an image has y, x, before them c, "
            "and t and z of length 1: write each plane to its own file"
        )


def _check_chunks(level: Level) -> None:
    keys = level.keys(0, level.shape[1])
    missing = list(islice((key for key in keys if not _holds_bytes(level.folder / key)), SHOWN + 1))
    if missing:
        more = " and more" if len(missing) > SHOWN else ""
        raise ImageError(
            f"{level.path} is missing chunks {', '.join(missing[:SHOWN])}{more} of array "
            f"{level.array.path!r}: copy it again. If its writer left out empty chunks, write it with "
            "write_empty_chunks=True"
        )


def _holds_bytes(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _places(spans: Sequence[range]) -> Iterator[tuple[int, ...]]:
    """One by one, unlike itertools.product, which first lists each span: a header may state any number."""
    if not spans:
        yield ()
        return
    for first in spans[0]:
        yield from ((first, *others) for others in _places(spans[1:]))


def write_zarr_blocks(path: Path, shape: Shape, blocks: Blocks, block: int) -> None:
    """Write a mask of 16 bits, in chunks (1, block, block)."""
    import zarr

    axes = [{"name": "c", "type": "channel"}, *({"name": side, "type": "space"} for side in "yx")]
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    image = {"name": "mask", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    attributes = {"ome": {"version": NGFF, "multiscales": [image]}}
    group = zarr.create_group(path, zarr_format=3, attributes=attributes)
    array = group.create_array(
        "0",
        shape=shape,
        chunks=(1, min(block, shape[1]), min(block, shape[2])),
        dtype="uint16",
        dimension_names=["c", "y", "x"],
        config={"write_empty_chunks": True},
    )
    for rows, columns, values in blocks:
        array[:, rows, columns] = values


OME_ZARR = Format(
    (".zarr",),
    open_zarr,
    write_blocks=write_zarr_blocks,
    any_channels=True,
    mask_suffix=".ome.zarr",
    is_folder=True,
)
