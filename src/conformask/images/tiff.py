"""TIFF files: images, volumes and stacks, plain, ImageJ or OME; and masks as OME-TIFF."""

import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import islice
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any
from xml.etree import ElementTree

import numpy as np

from conformask.errors import ImageError
from conformask.images.formats import (
    ORIENTATION,
    SIDEWAYS,
    Blocks,
    DiskArray,
    Format,
    Header,
    ImageHandle,
    Shape,
    SourceImage,
    Window,
    bits_of,
    blocks_of,
    channels_last,
    check_disk,
    check_memory,
    fill_level,
    halved,
    halvings,
    orientation_of,
    range_of,
    range_of_bits,
    rounded_down,
    time_point,
    upright,
    warn_transparent,
)
from conformask.records.reading import OTHER, UNITS, Geometry, Reading
from conformask.records.record import Array

NGFF_UNITS = {"mm": "millimeter", "\u00b5m": "micrometer", "nm": "nanometer", "m": "meter"}
"""Units of a Geometry, as OME-Zarr spells them."""
SPELLINGS = {
    **{name: name for name in UNITS},
    **{name: unit for unit, name in NGFF_UNITS.items()},
    **{name.replace("meter", "metre"): unit for unit, name in NGFF_UNITS.items()},
    **dict.fromkeys(("\u03bcm", "um", "\\u00B5m", "\\u00b5m", "\\u03BCm", "micron", "microns"), "\u00b5m"),
}
"""Units of a Geometry, by the names in files."""
INTERVAL = ("TimeIncrement", "TimeIncrementUnit")
"""Attributes of the time between time points."""
TIME_UNITS = {"ms": "ms", "msec": "ms", "s": "s", "sec": "s", "min": "min", "h": "h"}
"""Units of OME-XML, by ImageJ's names."""
EVEN = 0.25
"""Relative tolerance of the steps between planes, since stages do not stop exactly."""
MOST_PLANES, SMALLEST_PLANE = 1000, 64
"""Number of planes that any file may state; and the fewest bytes of a plane in another file."""
Step = tuple[Any, Any]
"""Step from pixel to pixel along an axis, and its unit, as a file states them."""


def geometry_of(steps: Sequence[Step]) -> Geometry | None:
    """Return the spacing that a file states, in the unit of its last axis; None if a step is unknown."""
    sizes = [_number(size) for size, _ in steps]
    units = [SPELLINGS.get(str(unit)) for _, unit in steps]
    unit = units[-1]
    if unit is None or not all(math.isfinite(size) and size > 0 for size in sizes):
        return None
    spacing = []
    for size, own_unit in zip(sizes, units, strict=True):
        if own_unit is None:
            return None
        ratio = UNITS[own_unit] / UNITS[unit]  # a power of 1000, of which a float holds none below 1
        spacing.append(size * round(ratio) if ratio >= 1 else size / round(1 / ratio))
    return Geometry(tuple(spacing), unit)


def _number(value: Any) -> float:
    """Convert to float; NaN for what is not a number."""
    with suppress(TypeError, ValueError):
        return float(value)
    return math.nan


def other_files(path: Path, xml: str) -> list[Path]:
    """Return the files beside a TIFF file, or in folders there, where its OME-XML says that planes lie."""
    folder = path.parent.resolve()
    names = {uuid.get("FileName", "") for uuid in _root_of_xml(xml).iterfind(".//{*}UUID")}
    others = {name: (folder / name).resolve() for name in names - {"", path.name}}
    for name, file in others.items():
        if not file.is_relative_to(folder):
            raise ImageError(f"{path} refers to planes in {name}: put that file beside it, under this name")
    return sorted(others.values())


def check_planes(path: Path, xml: str, pages: int) -> None:
    """Raise for OME-XML with more planes than there can be, since tifffile would list them all."""
    others = [file for file in other_files(path, xml) if file.is_file()]
    most_planes = max(MOST_PLANES, pages + sum(file.stat().st_size // SMALLEST_PLANE for file in others))
    for pixels in _root_of_xml(xml).iterfind("{*}Image/{*}Pixels"):
        planes = math.prod(_number(pixels.get(f"Size{axis}", 1)) for axis in "ZCT")
        if not planes <= most_planes:  # also where a size is not a number
            raise ImageError(f"{path} states {planes:,.0f} planes but contains {pages}: copy it again")


@lru_cache(maxsize=1)
def planes_of_xml(xml: str) -> dict[tuple[str | None, str | None], dict[str, str]]:
    """Return attributes of the planes of OME-XML's first image, of their first channel, by time and z."""
    planes = (plane.attrib for plane in _pixels_of_xml(xml).findall("{*}Plane"))
    return {(plane.get("TheT"), plane.get("TheZ")): plane for plane in planes if plane.get("TheC") == "0"}


def check_depths(path: Path, xml: str, time: int, geometry: Geometry, count: int) -> None:
    """Raise for a volume whose planes, by their stated positions, are not as far apart as its spacing says.

    They may go up or down. Positions that are not lengths are ignored, and so are those of a stage that
    stood still while the focus moved.
    """
    planes, unit, spacing = planes_of_xml(xml), geometry.unit, geometry.spacing[0]
    stated = [planes.get((str(time), str(z)), {}) for z in range(count)]
    units = [UNITS.get(SPELLINGS.get(plane.get("PositionZUnit", ""), ""), math.nan) for plane in stated]
    depths = np.array([_number(plane.get("PositionZ")) for plane in stated]) * units / UNITS[unit]
    if not (np.ptp(depths) >= spacing / 2):  # also where one is NaN
        return
    steps = np.diff(depths)
    usual, mean = float(np.median(steps)), abs(float(steps.mean()))
    odd = int(abs(steps - usual).argmax())
    if abs(steps[odd] - usual) > EVEN * abs(usual):
        raise ImageError(
            f"{path}: from plane {odd} to {odd + 1} PositionZ changes by {steps[odd]:.4g} {unit}, elsewhere "
            f"by {usual:.4g}: a plane may be missing or out of order; export it again. If these are not the "
            "positions of its planes, remove them from its OME-XML"
        )
    if not 1 / OTHER <= mean / spacing <= OTHER:
        raise ImageError(
            f"{path}: its planes lie {mean:.4g} {unit} apart by PositionZ, and {spacing:.4g} by "
            "PhysicalSizeZ: correct the one that is wrong in its OME-XML"
        )


@lru_cache(maxsize=1)
def _root_of_xml(xml: str) -> ElementTree.Element:
    """Parse OME-XML; return an empty element where that fails."""
    with suppress(ElementTree.ParseError):
        return ElementTree.fromstring(xml)
    return ElementTree.Element("OME")


def _pixels_of_xml(xml: str) -> ElementTree.Element:
    """Return the Pixels of the first image; an empty element where there are none."""
    pixels = _root_of_xml(xml).find("{*}Image/{*}Pixels")
    return ElementTree.Element("Pixels") if pixels is None else pixels


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
    """
    import tifffile

    level = _level(path, shape)
    for places, values in blocks:
        level[:, *places] = rounded_down(values)
    steps = list(halvings(shape[1:], None)) if max(shape[-2:]) > FLAT and not under.is_labels else []
    film, of = "T" if under.is_film else "", f" of {under.path.name}" if under.path else ""
    metadata = {
        "axes": film + "ZYX"[len(film) - len(shape) + 1 :] + ("S" if shape[0] > 1 else ""),
        "Name": f"trusted objects{of}" if under.is_labels else f"mask{of}, 1 = trusted",
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
            stated = file.imagej_metadata or {}
            step, unit = stated.get("finterval"), TIME_UNITS.get(stated.get("tunit", "s"))
            is_known = under.is_film and step is not None and unit is not None
            return {"TimeIncrement": str(step), "TimeIncrementUnit": unit} if is_known else {}
        xml = file.ome_metadata or ""
    times, by_place = range(shape[1]) if under.is_film else [time or 0], planes_of_xml(xml)
    depth = prod(shape[1:-2]) // len(times)
    attributes = [by_place.get((str(time), str(z)), {}) for time in times for z in range(depth)]
    planes = [{name: plane[name] for name in PLANE if name in plane} for plane in attributes]
    pixels = _pixels_of_xml(xml).attrib if under.is_film else {}
    interval = {name: pixels[name] for name in INTERVAL if name in pixels}
    return {**interval, "Plane": planes} if any(planes) else interval


def _sizes(geometry: Geometry | None) -> dict[str, float | str]:
    """Return physical sizes and their units, by their names in OME-XML."""
    sizes: dict[str, float | str] = {}
    if geometry is not None:
        for axis, step in zip("ZYX"[-len(geometry.spacing) :], geometry.spacing, strict=True):
            sizes |= {f"PhysicalSize{axis}": step, f"PhysicalSize{axis}Unit": geometry.unit}
    return sizes


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
        """Return the planes of one time point."""
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
    """Return the only image of an open TIFF file, with the named axes if there are as many as stored ones."""
    _check_chain(path, file)
    stated = (file.imagej_metadata or {}).get("images", 1)
    # of a truncated ImageJ stack tifffile reads only the first plane
    if stated > len(file.pages) and file.series[0].kind not in ("imagej", "ome"):
        raise ImageError(
            f"{path} states {stated} images but ends before the last one: it is truncated; copy it again"
        )
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
        which = f"{kind}{'s' * (len(missing) > 1)} {', '.join(missing[:SHOWN])}{more}"
        if _is_cut(stack):
            raise ImageError(f"{path} ends too early, before the end of {which}: copy it again")
        raise ImageError(
            f"{path} is missing {which}: copy it again. If its writer left out empty {kind}s, write them as "
            "well"
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


def _is_cut(stack: PageStack) -> bool:
    """Return whether the file ends before the bytes that its headers state, as after a stopped copy."""
    if stack.is_mapped:
        return bool(stack.series.dataoffset + stack.series.nbytes > stack.page.parent.filehandle.size)
    ends = (
        (offset + size, page.parent.filehandle.size)
        for page in map(stack.series.__getitem__, map(int, stack.numbers.ravel()))
        if page is not None
        for offset, size in zip(page.dataoffsets, page.databytecounts, strict=False)
    )
    return any(end > size for end, size in ends)


PALETTE = 3
"""Photometric interpretation of a palette."""
JPEG = (6, 7, 33007, 34892)
"""Compressions that decode YCbCr to RGB, unless its planes are stored separately."""
ALPHA = (1, 2)
"""Extra samples that hold the opacity of a pixel."""


@contextmanager
def open_tiff(path: Path, reading: Reading, time: int | None) -> Iterator[ImageHandle]:
    """Open the only image of a TIFF file, or one time point of it."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        stack = stack_of(path, file, reading.axes).at(time)
        check_segments(stack)
        channels, colours = _colours(stack, as_stored=reading.as_stored)
        orientation = orientation_of(stack.page.tags.valueof(ORIENTATION))

        def decode() -> Array:
            return colours(_upright(stack, stack.decode(), orientation))

        def window() -> Window:
            view = stack.views()
            return lambda places: colours(_upright(stack, view(places[0]), orientation)[places])

        yield ImageHandle(_header(stack, channels, orientation >= SIDEWAYS), decode, window)


def companions_of_tiff(path: Path) -> list[Path]:
    """Return the other files in which planes of an OME-TIFF lie."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        xml = file.ome_metadata
    return [other for other in other_files(path, xml) if other.is_file()] if xml else []


def times_of_tiff(path: Path, reading: Reading) -> int | None:
    """Return the number of time points of a file; None where it has one, or no axis of time."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        times = stack_of(path, file, reading.axes).times or 1
    return times if times > 1 else None


def _upright(stack: PageStack, image: Array, orientation: int) -> Array:
    """Return a view of an image or volume, each plane turned upright."""
    if not stack.is_volume:
        return upright(image, orientation)
    turned = upright(image.swapaxes(0, 1).swapaxes(1, 2), orientation)  # (H, W, D) or (H, W, D, C)
    return turned.swapaxes(1, 2).swapaxes(0, 1)


def _colours(stack: PageStack, *, as_stored: bool) -> tuple[int, Callable[[Array], Array]]:
    """Return the number of channels, and a function that makes them from the stored numbers."""
    page, samples = stack.page, stack.samples
    kind = getattr(page.photometric, "name", page.photometric)
    if kind == "PALETTE" and samples == 1:
        # 16 bits, of which some writers fill only the lower 8
        entries = np.asarray(page.colormap)
        palette = (entries if entries.max() < 256 else entries >> 8).astype(np.uint8).T
        return 3, lambda array: np.take(palette, array, axis=0)
    if kind == "RGB" and samples >= 3:
        alpha = {3 + place for place, extra in enumerate(page.extrasamples) if extra in ALPHA}
        colours = [place for place in range(samples) if place not in alpha]
        return len(colours), lambda array: _without_alpha(stack.path, array, colours, sorted(alpha))
    becomes_rgb = kind == "YCBCR" and page.compression in JPEG and page.planarconfig == 1
    if kind not in ("MINISBLACK", "MINISWHITE") and not becomes_rgb:
        raise ImageError(f"{stack.path} has {kind} colours; save it as grey or RGB")
    with_alpha = samples == 2 and any(extra in ALPHA for extra in page.extrasamples[:1])
    black, dtype = None, stack.series.dtype
    if kind == "MINISWHITE" and not as_stored:
        if dtype.kind not in "bu":
            raise ImageError(
                f"{stack.path} contains {dtype} and states that 0 is white; save it with 0 as black"
            )
        black = dtype.type(2 ** _bits(stack) - 1)

    def grey(array: Array) -> Array:
        planes = _without_alpha(stack.path, array, [0], [1])[..., 0] if with_alpha else array
        return planes if black is None else planes ^ black  # all bits flipped: black - planes

    return 1 if with_alpha else samples, grey


def _without_alpha(path: Path, array: Array, colours: list[int], alpha: list[int]) -> Array:
    """Return the samples without alpha; warn where pixels are transparent."""
    if not alpha:
        return array
    warn_transparent(path, array[..., alpha])
    alpha_is_last = colours == list(range(len(colours)))
    return array[..., : len(colours)] if alpha_is_last else array[..., colours]


def _bits(stack: PageStack) -> int:
    """Return the bits of one sample, by the OME-XML or else the TIFF; RGB of 5, 6 and 5 bits decodes to 8."""
    bits, series = stack.page.bitspersample, stack.series
    if series.kind == "ome" and series.dtype.kind == "u":
        stated = _number(_pixels_of_xml(series.parent.ome_metadata or "").get("SignificantBits"))
        bits = int(stated) if stated >= 1 and stated.is_integer() else None
    return bits if isinstance(bits, int) else int(8 * series.dtype.itemsize)


def _header(stack: PageStack, channels: int, sideways: bool) -> Header:
    """Return the header of the upright image; palette colours have 8 bits, whatever their indices have."""
    dtype, bits = stack.series.dtype, _bits(stack)
    if stack.page.photometric == PALETTE:
        dtype, bits = np.dtype(np.uint8), 8
    packed = dtype.kind == "u" and bits < 8 * dtype.itemsize <= 16
    data_range = range_of_bits(bits) if packed else range_of(dtype, str(stack.path))
    axes = ("Z" if stack.is_volume else "") + ("XY" if sideways else "YX")
    space = tuple(stack.sides[axis] for axis in axes)
    geometry, is_lossy = _geometry(stack, axes), stack.page.compression in JPEG
    return Header(channels, space, bits_of(dtype), data_range, geometry, is_lossy=is_lossy)


def _geometry(stack: PageStack, axes: str) -> Geometry | None:
    """Return the physical sizes that OME-XML or ImageJ state; dots per inch are not such sizes."""
    file, kind = stack.series.parent, stack.series.kind
    if kind == "ome":
        xml = file.ome_metadata or ""
        names, pixels = [f"PhysicalSize{axis}" for axis in axes], _pixels_of_xml(xml)
        geometry = geometry_of([(pixels.get(name), pixels.get(f"{name}Unit", "\u00b5m")) for name in names])
        if geometry is not None and stack.is_volume:
            check_depths(stack.path, xml, stack.time, geometry, stack.sides["Z"])
        return geometry
    if kind != "imagej":
        return None
    stated = file.imagej_metadata or {}
    units = {axis: stated.get(f"{axis.lower()}unit", stated.get("unit")) for axis in "YZ"} | {
        "X": stated.get("unit")
    }
    sizes = {"Z": stated.get("spacing")}
    for axis in "XY":  # pixels per unit
        pixels, length = stack.page.tags.valueof(f"{axis}Resolution", (0, 0))
        sizes[axis] = length / pixels if pixels else math.nan
    return geometry_of([(sizes[axis], units[axis]) for axis in axes])


def write_tiff(path: Path, array: Array) -> None:
    """Write integers (H, W) or (H, W, 3) of 8 or 16 bits."""
    import tifffile

    kind = "minisblack" if array.ndim == 2 else "rgb"
    tifffile.imwrite(path, array, photometric=kind, compression="zlib")


TIFF = Format(
    open_tiff,
    write_tiff,
    write_over=write_tiff_over,
    write_blocks=write_tiff_blocks,
    volumes=True,
    films=True,
    mask_suffix=None,
    times=times_of_tiff,
    companions=companions_of_tiff,
)
