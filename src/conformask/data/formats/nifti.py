"""Reading of NIfTI-1 and NIfTI-2 images. Needs the extra nifti.

A NIfTI array is (X, Y, Z, times, channels); an image here is (Z, Y, X) or (Z, Y, X, C), not turned otherwise.
"""

import gzip
import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import inf, prod
from pathlib import Path
from typing import Any

import numpy as np

from conformask.data.formats.format import Format
from conformask.data.formats.header import (
    DataRange,
    Header,
    ImageHandle,
    Places,
    Window,
    bits_of,
    range_of,
    range_of_bits,
)
from conformask.data.formats.nifti_file import SUFFIXES, is_compressed, is_mask, loaded
from conformask.data.formats.nifti_masks import write_nifti_blocks
from conformask.data.limits import check_memory
from conformask.errors import ImageError
from conformask.records.geometry import UNITS, Geometry, affine_of
from conformask.records.reading import Reading
from conformask.types import Array

ORDER = re.compile("XYZ?(TC?|CT?)?")
"""Pattern of the axes that a NIfTI array may have, in its order."""
ADVICE = "XYZ is a volume, XYZT has an image for each time point, all of one group, and XYZC has channels"
SPACE_UNITS = {1: "m", 2: "mm", 3: "\u00b5m"}
"""Units by the lower three bits of xyzt_units; a file that states none is in mm."""
CHUNK = 2**22
"""Number of bytes that are decompressed at once."""


@dataclass(frozen=True)
class NiftiImage:
    """The array of a NIfTI file, in its own order."""

    path: Path
    image: Any
    """nibabel's image."""
    axes: str
    """Letter of XYZTC for each axis of the array; a dot for one of length 1 that is left out."""
    time: int
    """Time point, where there is an axis of time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the stored array, (X, Y, ...)."""
        return tuple(map(int, self.image.shape))

    @property
    def sides(self) -> dict[str, int]:
        """Length of each axis."""
        return dict(zip(self.axes, self.shape, strict=True))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored type."""
        dtype: np.dtype[Any] = self.image.dataobj.dtype
        return dtype

    @property
    def is_colour(self) -> bool:
        """True if each value is a colour, RGB or RGBA."""
        return self.dtype.names is not None

    @property
    def scaling(self) -> tuple[float, float] | None:
        """Slope and intercept from stored numbers to values; None where the stored numbers are the values."""
        slope, intercept = float(self.image.dataobj.slope), float(self.image.dataobj.inter)
        return None if self.is_colour or (slope, intercept) == (1, 0) else (slope, intercept)

    def header(self) -> Header:
        """Return the header of the image.

        Raises:
            ImageError: it holds neither numbers nor colours.
        """
        sides = self.sides
        space = tuple(sides[axis] for axis in "ZYX" if axis in sides)
        channels = 3 if self.is_colour else sides.get("C", 1)
        bits = 16 if self.scaling else bits_of(np.dtype(np.uint8) if self.is_colour else self.dtype)
        return Header(channels, space, bits, self._data_range(), self._geometry(len(space)))

    def _data_range(self) -> DataRange | None:
        """Return the range; None for scaled numbers, except in masks, since slopes differ between files."""
        if self.is_colour:
            return range_of_bits(8)
        if is_mask(self.image):
            return 0.0, 1.0
        data_range = range_of(self.dtype, str(self.path))
        return None if self.scaling else data_range

    def _geometry(self, axes: int) -> Geometry | None:
        header = self.image.header
        unit = SPACE_UNITS.get(int(header["xyzt_units"]) & 7, "mm")
        spacing = tuple(float(step) for step in header["pixdim"][axes:0:-1])
        if not all(0 < step < inf for step in spacing):
            return None
        if not (header["sform_code"] > 0 or header["qform_code"] > 0):
            return Geometry(spacing, unit)
        affine = self.image.affine.copy()
        affine[:3] *= 1 if unit == "mm" else UNITS[unit] / UNITS["mm"]
        return Geometry(spacing, unit, affine_of(affine))

    def window(self, array: Array, places: Places, time: int) -> Array:
        """Return the values of a window of the stored array, (*space) or (*space, C)."""
        at = dict(zip("ZYX"[-len(places) :], places, strict=True)) | {"C": slice(None)}
        part = array[tuple(at.get(axis, time if axis == "T" else 0) for axis in self.axes)]
        left = [axis for axis in self.axes if axis in at]
        return self._values(part.transpose([left.index(axis) for axis in "ZYXC" if axis in left]))

    def _values(self, stored: Array) -> Array:
        if self.is_colour:
            return np.stack([stored[colour] for colour in "RGB"], axis=-1)
        if self.scaling is None:
            return stored
        slope, intercept = self.scaling
        values = np.empty(stored.shape, np.promote_types(self.dtype, np.float32))
        for plane, numbers in zip(values, stored, strict=True):
            plane[...] = numbers.astype(np.float64) * slope + intercept
        return values


def open_nifti(path: Path, reading: Reading, time: int | None) -> AbstractContextManager[ImageHandle]:
    """Open the image of a file, perhaps at one time point.

    Raises:
        MissingFileError: the extra nifti is not installed.
        ImageError: the file is not a NIfTI image, is truncated, has several time points or unknown axes,
            or does not have the given axes.
    """
    image = loaded(path)
    given = _given(image, reading)
    axes = _axes(path, image.shape, given)
    stored = NiftiImage(path, image, axes, _time(path, image.shape, axes, given, time))
    header = stored.header()
    _check_offset(stored)
    if not is_compressed(path):
        _check_size(stored)

    def decode() -> Array:
        return _in_memory(stored)(header.everywhere)

    return nullcontext(ImageHandle(header, decode, lambda: _window(stored)))


def times_of_nifti(path: Path, reading: Reading) -> int | None:
    """Return the length of the axis T, if the given axes, or those of a mask, have one; else None."""
    image = loaded(path)
    given = _given(image, reading)
    return _times(image.shape, _axes(path, image.shape, given)) if "T" in (given or "") else None


def _given(image: Any, reading: Reading) -> str | None:
    """Return the given axes or else, for a mask of a time series, those with which it was written."""
    is_film = is_mask(image) and max(image.shape[3:4], default=1) > 1
    return "XYZTC"[: len(image.shape)] if reading.axes is None and is_film else reading.axes


def _axes(path: Path, shape: tuple[int, ...], given: str | None) -> str:
    """Return a letter of XYZTC for each axis of an array, or a dot where it is left out."""
    length = max((at + 1 for at, side in enumerate(shape) if side != 1), default=0)
    sides = shape[: max(length, 2)]
    if len(sides) < 2 or min(sides) < 1:
        raise ImageError(f"{path} has shape {shape}; an image has X and Y, of at least one pixel each")
    letters = _usual(path, sides) if given is None else _in_order(path, given)
    places = list(range(len(sides)))
    for at, axis in ((3, "T"), (2, "Z")):  # NIfTI leaves a place for them where they are missing
        if len(places) > max(len(letters), at) and sides[at] == 1 and axis not in letters:
            places.remove(at)
    if len(places) > len(letters):
        raise ImageError(
            f"{path} has shape {tuple(shape)}, which does not match the given axes {given}; {ADVICE}"
        )
    axes = ["."] * len(shape)
    for at, axis in zip(places, letters, strict=False):  # letters left over are axes of length 1
        axes[at] = axis if axis in "XY" or sides[at] > 1 else "."
    return "".join(axes)


def _usual(path: Path, sides: tuple[int, ...]) -> str:
    """Return the axes of a file for which none are given."""
    if len(sides) < 4:
        return "XYZ"
    if len(sides) == 5 and sides[3] == 1:
        return "XYZC"
    letters = "XYZT or XYZC" if len(sides) == 4 else "XYZTC"
    raise ImageError(f"{path} has shape {sides}: name its axes, --axes {letters}; {ADVICE}")


def _in_order(path: Path, given: str) -> str:
    if not ORDER.fullmatch(given):
        raise ImageError(
            f"{path}: axes {given} are not in the order of a NIfTI file, X, Y, Z, times and channels; "
            f"{ADVICE}"
        )
    return given


def _times(shape: tuple[int, ...], axes: str) -> int:
    return int(shape[axes.index("T")]) if "T" in axes else 1


def _time(path: Path, shape: tuple[int, ...], axes: str, given: str | None, time: int | None) -> int:
    if "T" not in (given or ""):
        if time is not None:
            raise ImageError(
                f"{path} has no time axis: if it should have one, name its axes, such as --axes XYZT"
            )
        return 0
    times = _times(shape, axes)
    if time is None and times > 1:
        raise ImageError(f"{path} has {times} time points: choose one, such as {path.name}#t=0")
    if time is not None and time >= times:
        raise ImageError(f"{path} has {times} time points, counted from 0: there is no {time}")
    return time or 0


def _check_offset(stored: NiftiImage) -> None:
    """Raise for voxels that would begin within the header."""
    offset, least = int(stored.image.dataobj.offset), int(stored.image.header.single_vox_offset)
    if offset < least:
        raise ImageError(
            f"{stored.path} states that its voxels begin at byte {offset}, within its header of {least} "
            "bytes: write it again, with vox_offset"
        )


def _check_size(stored: NiftiImage) -> None:
    size, offset = stored.path.stat().st_size, int(stored.image.dataobj.offset)
    needed = offset + prod(stored.shape) * stored.dtype.itemsize
    if size < needed:
        raise ImageError(f"{stored.path} has only {size} of {needed} bytes: it is truncated; copy it again")


def _window(stored: NiftiImage) -> Window:
    """Return a reader of windows of a file, which is mapped or, if compressed, decompressed once."""
    if is_compressed(stored.path):
        return _in_memory(stored)
    offset = int(stored.image.dataobj.offset)
    mapped = np.memmap(stored.path, stored.dtype, "r", offset, stored.shape, order="F")
    return lambda places: stored.window(mapped, places, stored.time)


def _in_memory(stored: NiftiImage) -> Window:
    """Return a reader of windows in memory, which holds only the time point if that is contiguous."""
    shape, at = stored.shape, stored.axes.find("T")
    in_one_piece = at >= 0 and prod(shape[at + 1 :]) == 1
    part = (*shape[:at], 1, *shape[at + 1 :]) if in_one_piece else shape
    size = prod(part) * stored.dtype.itemsize
    check_memory(f"{stored.path}, {part} of {stored.dtype},", size)
    numbers = np.empty(prod(part), stored.dtype)
    skipped, time = (stored.time * size, 0) if in_one_piece else (0, stored.time)
    offset = int(stored.image.dataobj.offset)
    _fill(numbers, stored.path, offset + skipped, offset + prod(shape) * stored.dtype.itemsize)
    array = numbers.reshape(part, order="F")
    return lambda places: stored.window(array, places, time)


def _fill(numbers: Array, path: Path, offset: int, end: int) -> None:
    """Read numbers from a file; read a compressed one to its end, where gzip checks its checksum."""
    buffer, filled = numbers.view(np.uint8).data, 0
    compressed = is_compressed(path)
    with gzip.open(path) if compressed else path.open("rb") as file:
        file.seek(offset)
        while filled < len(buffer):
            content = file.read(min(CHUNK, len(buffer) - filled))
            if not content:
                raise EOFError(f"{filled} bytes of {len(buffer)}")
            buffer[filled : filled + len(content)] = content
            filled += len(content)
        while compressed and file.read(CHUNK):
            if file.tell() > end + CHUNK:
                raise ImageError(f"{path} continues after its last voxel: it is damaged; write it again")


NIFTI = Format(
    SUFFIXES,
    open_nifti,
    write_blocks=write_nifti_blocks,
    any_channels=True,
    volumes=True,
    films=True,
    mask_suffix=None,
    times=times_of_nifti,
)
