"""The planes of a TIFF file: their axes, checks that none is missing, and windows."""

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from conformask.data.formats.format import time_point
from conformask.data.formats.ome import check_planes
from conformask.data.memory import DiskArray, check_disk, check_memory
from conformask.errors import ImageError
from conformask.storage.as_arrays import Array

KNOWN = "TZCYXS"
"""Known axes: times, depth, channels, rows, columns, and interleaved channels."""
SHOWN = 3
"""Number of missing strips or tiles that an error names."""
MEANINGS = {"Z": "a volume", "T": "time points", "C": "channels"}
"""Possible meanings of an axis of a stack."""
EVERYTHING = slice(None)


@dataclass(frozen=True, eq=False)
class PageStack:
    """One image of a TIFF file as it is stored: the planes of one time point, and their axes."""

    path: Path
    series: Any
    """tifffile's series."""
    axes: str
    """Letter of each stored axis."""
    time: int = 0
    """Index along T."""
    _lock: Lock = field(default_factory=Lock)

    def at(self, time: int | None) -> "PageStack":
        """Return the planes of one time point.

        Raises:
            ImageError: there are several and none is named, or there is none with this number.
        """
        return PageStack(self.path, self.series, self.axes, time_point(self.path, self.times, time))

    @property
    def sides(self) -> dict[str, int]:
        """Length of each axis."""
        return dict(zip(self.axes, self.series.shape, strict=True))

    @property
    def times(self) -> int | None:
        """Number of time points; None where there is no axis of time."""
        return self.sides.get("T")

    @property
    def is_volume(self) -> bool:
        """True if the image has several planes; one plane is an image (H, W)."""
        return self.sides.get("Z", 1) > 1

    @property
    def samples(self) -> int:
        """Number of channels as stored."""
        return self.sides.get("S") or self.sides.get("C") or 1

    @property
    def page(self) -> Any:
        """First plane, whose properties hold for all of them."""
        return self.series.keyframe

    @property
    def is_mapped(self) -> bool:
        """True if the pixels lie in the file as one array."""
        series = self.series
        plain = self.page.is_final and series.transform is None and not series.is_multifile
        elsewhere = self.page.parent is not series.parent  # one other file does not count as multifile
        return plain and not elsewhere and series.dataoffset is not None

    @cached_property
    def leading(self) -> tuple[int, ...]:
        """Sides of the axes along which planes follow each other."""
        sides: tuple[int, ...] = self.series.shape
        return sides[: len(sides) - len(self.page.shape)]

    @cached_property
    def numbers(self) -> Array:
        """Number of each plane of the time point, along the leading axes without T."""
        if prod(self.leading) != len(self.series) or self.leading + self.page.shape != self.series.shape:
            raise ImageError(
                f"{self.path} has planes {self.page.shape} that do not make up {self.series.axes} "
                f"{self.series.shape}; write it again"
            )
        numbers: Array = np.arange(len(self.series)).reshape(self.leading)
        place = self.axes[: len(self.leading)].find("T")
        return numbers if place < 0 else np.asarray(np.moveaxis(numbers, place, 0)[self.time])

    def image(self, array: Array, axes: str) -> Array:
        """Return a view (*space) or (*space, C) of stored pixels with these axes; T may be gone from them."""
        places = {"T": self.time, "Z": EVERYTHING if self.is_volume else 0}
        array = array[tuple(EVERYTHING if axis in "CYXS" else places.get(axis, 0) for axis in axes)]
        order = "".join(axis for axis in axes if axis in "CYXS" or (axis == "Z" and self.is_volume))
        return array.transpose([order.index(axis) for axis in "ZYXCS" if axis in order])

    def decode(self) -> Array:
        """Return the whole image, (*space) or (*space, C)."""
        if self.is_mapped:
            whole: Array = self._map().astype(self.series.dtype)
            return whole
        planes = np.empty((self.numbers.size, *self.page.shape), self.series.dtype)
        self._fill(planes, range(len(planes)))
        return self._image_of(planes)

    def views(self) -> Callable[[slice], Array]:
        """Return a function that returns the image, with the requested planes along z decoded.

        Pixels stored as one array are mapped; other planes are decoded when first requested, into a
        temporary file.

        Raises:
            ImageError: the temporary file would fill the disk.
        """
        if self.is_mapped:
            return lambda depth: self._map()
        planes = DiskArray((self.numbers.size, *self.page.shape), self.series.dtype)
        remedy = "set TMPDIR to another folder, or write it without compression"
        check_disk(str(self.path), prod(planes.shape) * planes.dtype.itemsize, None, remedy, ImageError)
        decoded = set[int]()

        def view(depth: slice) -> Array:
            with self._lock:
                for place in self._places(depth):
                    if place not in decoded:
                        self._fill(planes.mapped(), [place])
                        decoded.add(place)
            return self._image_of(planes.mapped())

        return view

    def _map(self) -> Array:
        series = self.series
        dtype = np.dtype(series.parent.byteorder + series.dtype.char)
        mapped = np.memmap(self.path, dtype, "r", series.dataoffset, series.shape)
        return self.image(mapped, self.axes)

    def _image_of(self, planes: Array) -> Array:
        count = len(self.leading)
        axes = self.axes[:count].replace("T", "") + self.axes[count:]
        return self.image(planes.reshape((*self.numbers.shape, *self.page.shape)), axes)

    def _places(self, depth: slice) -> list[int]:
        """Return where the planes along z lie among those of the time point."""
        places = np.arange(self.numbers.size).reshape(self.numbers.shape)
        axis = self.axes[: len(self.leading)].replace("T", "").find("Z")
        requested = places if axis < 0 or not self.is_volume else places.swapaxes(0, axis)[depth]
        return [int(place) for place in requested.ravel()]

    def _fill(self, planes: Array, places: Sequence[int]) -> None:
        numbers = self.numbers.ravel()
        pages = [self.series[int(numbers[place])] for place in places]
        with _open(pages):
            for place, page in zip(places, pages, strict=True):
                if self.series.transform is None:
                    decoded = page.asarray(out=planes[place])
                    if decoded.size < planes[place].size:  # a type that tifffile does not know
                        raise ImageError(
                            f"{self.path} contains a plane that cannot be decoded; write it again"
                        )
                else:
                    planes[place] = self.series.transform(page.asarray())


@contextmanager
def _open(pages: Sequence[Any]) -> Iterator[None]:
    """Open the files of these planes again where they were closed.

    A window is read after the file was closed, and tifffile closes the other files of an OME-TIFF at once.
    """
    handles = {id(page.parent): page.parent.filehandle for page in pages}.values()
    closed = [handle for handle in handles if handle.closed]
    try:
        for handle in closed:
            handle.open()
        yield
    finally:
        for handle in closed:
            handle.close()


def stack_of(path: Path, file: Any, named_axes: str | None) -> PageStack:
    """Return the only image of an open TIFF file, with the named axes if there are as many as stored ones.

    Raises:
        ImageError: it holds several images, a stack whose axes are unknown, or less than it states.
    """
    _check_chain(path, file)
    _check_images(path, file)
    if file.ome_metadata:
        check_planes(path, file.ome_metadata, len(file.pages))
    series = file.series[0]
    shapes = ", ".join(f"{image.axes} {image.shape}" for image in file.series)
    if len(file.series) > 1:
        raise ImageError(f"{path} is a stack of images that differ ({shapes}); write each to its own file")
    axes = _axes(path, series, named_axes)
    if "C" in axes and "S" in axes:
        raise ImageError(f"{path} is a stack of colour images ({shapes}); write each to its own file")
    return PageStack(path, series, axes)


def _axes(path: Path, series: Any, named_axes: str | None) -> str:
    stored: str = series.axes
    if named_axes is not None and len(named_axes) == len(stored.replace("S", "")):
        letters = iter(named_axes)
        return "".join(axis if axis == "S" else next(letters) for axis in stored)
    unknown = [axis for axis in stored if axis not in KNOWN]
    if all(side == 1 for axis, side in zip(stored, series.shape, strict=True) if axis in unknown):
        return stored
    if named_axes is not None:
        raise ImageError(
            f"{path} has axes {stored} {series.shape}, which do not match the given axes {named_axes}"
        )
    ways = "with a letter of TCZYX for each, such as TZYX for time points of volumes"
    if len(unknown) == 1:
        template = stored.replace("S", "").replace(unknown[0], "{}")
        ways = ", ".join(f"{template.format(letter)} for {meaning}" for letter, meaning in MEANINGS.items())
    raise ImageError(f"{path} is a stack ({stored} {series.shape}): name its axes, --axes {ways}")


def _check_chain(path: Path, file: Any) -> None:
    """Raise if an image names an earlier one as its successor: tifffile would follow the circle for ever."""
    kind, handle = file.tiff, file.filehandle
    offset, offsets = file.pages.first.offset, set[int]()
    with suppress(struct.error):  # end of file, and of the chain
        while 0 < offset < handle.size:
            if offset in offsets:
                raise ImageError(f"{path} names an image as its own successor: it is damaged; write it again")
            offsets.add(offset)
            handle.seek(offset)
            count = struct.unpack(kind.tagnoformat, handle.read(kind.tagnosize))[0]
            handle.seek(count * kind.tagsize, os.SEEK_CUR)
            offset = struct.unpack(kind.offsetformat, handle.read(kind.offsetsize))[0]


def _check_images(path: Path, file: Any) -> None:
    """Raise for a truncated ImageJ stack, of which tifffile reads only the first plane."""
    stated = (file.imagej_metadata or {}).get("images", 1)
    if stated > len(file.pages) and file.series[0].kind not in ("imagej", "ome"):
        raise ImageError(
            f"{path} states {stated} images but ends before the last one: it is truncated; copy it again"
        )


def check_segments(stack: PageStack) -> None:
    """Raise for an image with missing strips or tiles.

    tifffile reads a missing one as black, or as whatever lies in memory.
    """
    path, page = stack.path, stack.page
    kind = "tile" if page.is_tiled else "strip"
    if prod(page.chunked) * prod(page.chunks) < prod(page.shape):
        raise ImageError(f"{path} has {kind}s for only some of its planes; write it again")
    missing = [str(index) for index in islice(_missing(stack), SHOWN + 1)]
    if missing:
        more = " and more" if len(missing) > SHOWN else ""
        raise ImageError(
            f"{path} is missing {kind}s {', '.join(missing[:SHOWN])}{more}: copy it again. If its writer "
            f"left out empty {kind}s, write them as well"
        )
    if not page.is_contiguous:
        check_memory(f"a {kind} of {path}", prod(page.chunks) * stack.series.dtype.itemsize)


def _missing(stack: PageStack) -> Iterator[int]:
    """Yield the numbers, through all planes, of strips or tiles whose bytes are not all in the file."""
    first, series = stack.page, stack.series
    count = prod(first.chunked)
    if stack.is_mapped and len(series) != prod(stack.leading):  # only the first plane has its own header
        size = first.parent.filehandle.size - series.dataoffset
        if series.nbytes > size:
            yield size // first.nbytes * count
        return
    smallest = first.nbytes if first.is_contiguous and count == 1 else 1
    for plane in map(int, stack.numbers.ravel()):
        page = series[plane]
        segments = () if page is None else zip(page.dataoffsets, page.databytecounts, strict=False)
        complete = [
            offset > 0 and smallest <= size <= page.parent.filehandle.size - offset
            for offset, size in segments
        ]
        for index in range(count):
            if index >= len(complete) or not complete[index]:
                yield plane * count + index
