"""OME-Zarr (NGFF 0.4 and 0.5): images and volumes of the highest resolution in. Needs the extra zarr."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain, islice
from math import ceil, prod
from os import SEEK_END
from pathlib import Path
from typing import Any

import numpy as np

from conformask.data.formats.format import Format
from conformask.data.formats.ngff import Placement, axes_of, image_of, placement_of
from conformask.data.formats.ome import geometry_of, time_point
from conformask.data.formats.ome_zarr_masks import write_zarr_blocks
from conformask.data.formats.opened import Header, Opened, Places, bits_of, range_of
from conformask.data.limits import check_memory
from conformask.errors import ImageError, MissingFileError
from conformask.records.reading import Reading
from conformask.types import Array

AXES = ("t", "c", "z", "y", "x")
SHOWN = 3
"""How many missing chunks an error names."""
EMPTY = 2**64 - 1
"""Offset and length, in the index of a shard, of a chunk that it does not hold."""
CRC32C = 4
"""Bytes of the checksum of the index, if it has one."""
BLOSC_HEADER = 16
"""Bytes, the last four of them the length of the chunk."""


@dataclass(frozen=True)
class Level:
    """The highest resolution of an OME-Zarr image, or of one time point of it."""

    path: Path
    array: Any
    """The zarr array."""
    axes: tuple[str, ...]
    placement: Placement
    """Of all axes."""
    time: int = 0

    @property
    def folder(self) -> Path:
        """Where its chunks lie."""
        return self.path / str(self.array.path)

    @property
    def sides(self) -> dict[str, int]:
        """The length of each axis."""
        return dict(zip(self.axes, self.array.shape, strict=True))

    @property
    def spatial(self) -> tuple[str, ...]:
        """The axes of an image; a single plane is (y, x)."""
        return ("z", "y", "x") if self.sides.get("z", 1) > 1 else ("y", "x")

    @property
    def header(self) -> Header:
        """What is known of it without its pixels."""
        dtype, sides, places = self.array.dtype, self.sides, self.placement.of(self.axes, self.spatial)
        geometry = geometry_of(list(zip(places.scale, places.units, strict=True)))
        space = tuple(sides[axis] for axis in self.spatial)
        data_range = range_of(dtype, str(self.path))
        return Header(sides.get("c", 1), space, bits_of(dtype), data_range, geometry)

    def window(self, places: Places) -> Array:
        """The pixels of a window, (*space) or (*space, C), in the file's type.

        Raises:
            ImageError: a chunk cannot be decoded, or they take more memory than allowed.
        """
        first = f"{'planes' if len(places) == 3 else 'rows'} {places[0].start} to {places[0].stop}"
        values = self.sides.get("c", 1) * prod(at.stop - at.start for at in places)
        check_memory(f"{self.path}, {first},", self.array.dtype.itemsize * values)
        wanted = self._slices(places)
        try:
            self._check_blosc(places)
            read: Array = np.asarray(
                self.array[tuple(at if axis in ("c", *self.spatial) else at.start for axis, at in wanted)]
            )
        except Exception as error:  # zarr's codecs share no type of error
            raise ImageError(
                f"{self.path}: {first} cannot be read ({error}); a chunk may be truncated, "
                "copy the folder again"
            ) from error
        return np.moveaxis(read, 0, -1) if "c" in self.axes else read

    def _slices(self, places: Places) -> list[tuple[str, slice]]:
        """Each axis, and where a window lies along it."""
        spatial = dict(zip(self.spatial, places, strict=True))
        others = {"t": slice(self.time, self.time + 1), "c": slice(0, self.sides.get("c", 1))}
        return [(axis, spatial.get(axis) or others.get(axis) or slice(0, 1)) for axis in self.axes]

    def keys(self, places: Places) -> Iterator[str]:
        """The files of the chunks, or shards, that hold a window."""
        spans = self._spans(places, self.array.shards or self.array.chunks)
        return (self.array.metadata.encode_chunk_key(place) for place in _places(spans))

    def left_out(self, places: Places) -> Iterator[str]:
        """The chunks of a window that the shards which are there do not hold, as c/0/1[2, 3]."""
        shards, chunks = self.array.shards, self.array.chunks
        if shards is None:
            return
        sides = tuple(shard // chunk for shard, chunk in zip(shards, chunks, strict=True))
        asked = self._spans(places, chunks)
        for place in _places(self._spans(places, shards)):
            key = self.array.metadata.encode_chunk_key(place)
            if not _holds_bytes(self.folder / key):
                continue
            held = self._held(self.folder / key, sides)
            starts = [at * side for at, side in zip(place, sides, strict=True)]
            spans = [
                range(max(span.start - start, 0), min(span.stop - start, side))
                for span, start, side in zip(asked, starts, sides, strict=True)
            ]
            yield from (f"{key}{list(inner)}" for inner in _places(spans) if not held[inner])

    def _held(self, shard: Path, sides: tuple[int, ...]) -> Array:
        """Which chunks a shard holds, by its index of offsets and lengths, whose checksum zarr checks."""
        sharding = self.array.metadata.codecs[0]
        values, checksum = 2 * prod(sides), CRC32C * (len(sharding.index_codecs) - 1)
        with shard.open("rb") as file:
            if sharding.index_location.value == "end":
                file.seek(-8 * values - checksum, SEEK_END)
            index = np.frombuffer(file.read(8 * values), np.uint64).reshape(*sides, 2)
        held: Array = index[..., 0] != EMPTY
        return held

    def _spans(self, places: Places, chunks: Sequence[int]) -> list[range]:
        """The chunks of these sides that hold a window, along each axis."""
        return [
            range(at.start // chunk, ceil(at.stop / chunk))
            for (_, at), chunk in zip(self._slices(places), chunks, strict=True)
        ]

    def _check_blosc(self, places: Places) -> None:
        """Blosc reads past the end of a truncated chunk and takes the memory there for pixels."""
        codecs = () if self.array.shards else self.array.compressors[-1:]
        if not any("Blosc" in type(codec).__name__ for codec in codecs):
            return
        for key in self.keys(places):
            if not (self.folder / key).is_file():  # an empty chunk, where these are allowed
                continue
            with (self.folder / key).open("rb") as file:
                stated, size = int.from_bytes(file.read(BLOSC_HEADER)[12:], "little"), file.seek(0, 2)
            if max(stated, BLOSC_HEADER) != size:
                raise ValueError(f"chunk {key} has {size} bytes of {stated}")


def open_zarr(path: Path, reading: Reading, time: int | None) -> AbstractContextManager[Opened]:
    """The image of an OME-Zarr folder, or one time point of it, all of its chunks there.

    zarr reads chunks that are not there as black, and a mask would vouch for them.

    Raises:
        MissingFileError: the extra zarr is not installed.
        ImageError: the folder is not an OME-Zarr image, has several time points and none is named, chunks are
            missing, or one takes more memory than allowed.
    """
    level = open_level(path)
    level = replace(level, time=time_point(path, level.sides.get("t"), time))
    check_memory(f"a chunk of {path}", level.array.dtype.itemsize * prod(level.array.chunks))
    header = level.header
    _check_chunks(level, header.everywhere, reading.empty_chunks)
    return nullcontext(Opened(header, lambda: level.window(header.everywhere), lambda: level.window))


def times_of_zarr(path: Path, reading: Reading) -> int | None:
    """How many time points a folder has; None where it has one, or no axis of time."""
    times = open_level(path).sides.get("t", 1)
    return times if times > 1 else None


def open_level(path: Path) -> Level:
    """The highest resolution of an OME-Zarr folder.

    Raises:
        MissingFileError: the extra zarr is not installed.
        ImageError: the folder is not an OME-Zarr image, or has other axes.
    """
    group = _group(path)
    try:
        image = image_of(group.attrs)
        array = group[image["datasets"][0]["path"]]
        level = Level(path, array, axes_of(image), placement_of(image))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ImageError(
            f"{path} is not an OME-Zarr image: it has no multiscales with axes and datasets ({error}); "
            "write it with an OME-Zarr writer of NGFF 0.4 or 0.5"
        ) from error
    _check_axes(level)
    return level


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
    in_order = len(axes) == len(shape) and list(axes) == [axis for axis in AXES if axis in axes]
    if not in_order or axes[-2:] != ("y", "x"):
        raise ImageError(
            f"{level.path} has axes {', '.join(axes)} of shape {shape}; an image has y, x, and before them "
            "t, c and z in this order, where it has them: write it with these axes"
        )


def _check_chunks(level: Level, places: Places, empty: bool) -> None:
    paths = ((key, level.folder / key) for key in level.keys(places))
    lost = (key for key, path in paths if not _holds_bytes(path) and (path.exists() or not empty))
    missing = list(islice(chain(lost, () if empty else level.left_out(places)), SHOWN + 1))
    if missing:
        more = " and more" if len(missing) > SHOWN else ""
        raise ImageError(
            f"{level.path} is missing chunks {', '.join(missing[:SHOWN])}{more} of array "
            f"{level.array.path!r}: copy it again. If its writer left out empty chunks, write it with "
            "write_empty_chunks=True, or have them read as empty, --empty-chunks (empty_chunks=True)"
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


OME_ZARR = Format(
    (".zarr",),
    open_zarr,
    write_blocks=write_zarr_blocks,
    any_channels=True,
    volumes=True,
    films=True,
    mask_suffix=".ome.zarr",
    is_folder=True,
    times=times_of_zarr,
)
