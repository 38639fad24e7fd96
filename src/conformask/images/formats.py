"""What a file type owes: a header, windows of pixels, masks; and the limits on memory and disk."""

import math
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from conformask.errors import ImageError, InvalidArgumentError, OutputError, warn_once
from conformask.records.reading import MOST_CHANNELS, Geometry, Ground, Reading, Size
from conformask.records.record import Array

DataRange = tuple[float, float]
"""Values (low, high) that become 0 and 1."""
Places = tuple[slice, ...]
"""Position of a window: a slice along each spatial axis."""
Window = Callable[[Places], Array]
"""Function that reads the pixels of a window, (*space) or (*space, C), in the file's own type."""

ORIENTATION = 274
"""Tag, of TIFF and EXIF, that says how to turn the stored pixels."""
SIDEWAYS = 5
"""Smallest orientation that swaps height and width."""


@dataclass(frozen=True)
class Header:
    """Facts that a file states about its image, read without decoding it."""

    channels: int
    space: Size
    """Size (H, W), or (D, H, W) of a volume."""
    bits: int
    """Bits that keep every value, 8 or 16; 16 for floats."""
    data_range: DataRange | None
    """Range of the stored values; None where the file does not say."""
    geometry: Geometry | None = None
    """Spacing and position of the pixels; None where the file does not say."""
    patient: str | None = None
    """Hash of the patient; None where the file does not say."""
    turned_about: float | None = None
    """Constant t of an inverted file, in which a stored value v is read as t - v; else None."""
    clipped: float = 0.0
    """Share of the values that were clipped to the range; known once the image is read."""
    ground: Ground | None = None
    """Where the image lies on a map; None where the file does not say."""
    is_lossy: bool = False
    """True if the file was compressed as JPEG, so that its values are not those that were saved."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (C, *space)."""
        return self.channels, *self.space

    @property
    def values(self) -> int:
        """Number of values."""
        return prod(self.shape)

    @property
    def everywhere(self) -> Places:
        """Window of the whole image."""
        return tuple(slice(0, side) for side in self.space)

    def stored_ends(self, reading: Reading) -> DataRange | None:
        """Return the least and the largest stored value that become 0 and 1, where they are known.

        Of an inverted file the largest becomes 0.
        """
        ends, about = reading.ends(self.data_range, self.bits), self.turned_about
        return ends if ends is None or about is None else (about - ends[1], about - ends[0])

    def turned(self, orientation: int) -> "Header":
        """Return the header of the upright image, from that of the stored pixels."""
        return self if orientation < SIDEWAYS else replace(self, space=self.space[::-1])


@dataclass(frozen=True)
class ImageHandle:
    """An open image file."""

    header: Header
    decode: Callable[[], Array]
    """Function that returns the pixels, (*space) or (*space, C), in the file's own type."""
    window: Callable[[], Window] | None = None
    """Function that returns a reader of windows; None for a format that has to be decoded whole."""


def header_of(array: Any, name: str = "the array", axes: str | None = None) -> Header:
    """Return the header of an array of numpy or dask: (H, W[, C]), or as the axes say; see `arranged`."""
    if axes is not None:
        array = arranged(array, axes, name)
        space = array.shape[:-1]
        return Header(array.shape[-1], space, bits_of(array.dtype), range_of(array.dtype, name))
    if array.ndim not in (2, 3) or array.size == 0:
        more = "; for an array with more axes, name them, such as axes='ZYX'" if array.ndim > 3 else ""
        raise ImageError(f"{name} has shape {array.shape}; an image is (H, W) or (H, W, C){more}")
    height, width, channels = (*array.shape, 1)[:3]
    # PyTorch's (3, H, W) would pass as an image of height 3 with W channels
    if height <= 4 < channels:
        raise ImageError(
            f"{name} has shape {array.shape}: put the channels last, (H, W, C); Triplets.from_dataset takes "
            "tensors (C, H, W)"
        )
    if channels > MOST_CHANNELS:
        raise ImageError(
            f"{name} has shape {array.shape}: name its axes, axes='ZYX' (--axes ZYX) for a volume, "
            "axes='YXC' for an image with that many channels"
        )
    return Header(channels, (height, width), bits_of(array.dtype), range_of(array.dtype, name))


def arranged(array: Any, axes: str, name: str = "the array") -> Any:
    """Return a view (*space, C) of an array of numpy or dask whose axes are letters of CZYX."""
    if array.ndim != len(axes) or array.size == 0:
        raise ImageError(f"{name} has shape {array.shape}, which does not match the given axes {axes}")
    view = array.transpose([axes.index(axis) for axis in "ZYXC" if axis in axes])
    return view if "C" in axes else view[..., None]


def image_of_array(array: Any, name: str = "the array", axes: str | None = None) -> tuple[Any, Header]:
    """Return an array as an image (*space) or (*space, C), with its header; see `header_of`."""
    header = header_of(array, name, axes)
    return array if axes is None else arranged(array, axes, name), header


def bits_of(dtype: np.dtype[Any]) -> int:
    """Return the bits that keep the values of this type: 8 or 16."""
    return 8 if dtype.itemsize == 1 and dtype.kind in "bu" else 16


def range_of(dtype: np.dtype[Any], name: str) -> DataRange | None:
    """Return the range that a type implies, None if it implies none."""
    if dtype.kind not in "buif":
        raise ImageError(f"{name} contains {dtype}; an image must contain integers or floats")
    if dtype.kind in "bf":
        return 0.0, 1.0
    return range_of_bits(8 * dtype.itemsize) if dtype.kind == "u" and dtype.itemsize <= 2 else None


def range_of_bits(bits: int) -> DataRange:
    """Return the range of unsigned integers of this many bits."""
    return 0.0, 2.0**bits - 1


def orientation_of(value: Any) -> int:
    """Return the orientation in a tag, 1 to 8; 1, upright, for any other value."""
    return int(value) if value in range(1, 9) else 1


def upright(array: Array, orientation: int) -> Array:
    """Return a view of stored pixels (H, W) or (H, W, C), turned upright."""
    turned = array.swapaxes(0, 1) if orientation >= SIDEWAYS else array
    # 1 to 4, and 5 to 8 alike: as stored, mirrored left to right, turned by 180 degrees, upside down
    flip = (orientation - 1) % 4
    rows, columns = (slice(None, None, -1 if flip in flips else 1) for flips in ((2, 3), (1, 2)))
    return turned[rows, columns]


def warn_transparent(path: Path, alpha: Array) -> None:
    """Warn once per process that pixels are not opaque: alpha is dropped, and their colours count."""
    if alpha.dtype.kind not in "bui":
        return
    transparent = float((alpha < np.iinfo(alpha.dtype).max).mean()) if alpha.dtype.kind != "b" else 0.0
    if transparent:
        warn_once(
            "transparency",
            f"{path}: {transparent:.1%} of its pixels are transparent, but alpha is ignored: their stored "
            "colours count like any others, in this image and in others like it",
        )


def channels_last(image: Array) -> Array:
    """Convert (C, *space) to the order of files: (*space) for one channel, else (*space, C)."""
    return np.ascontiguousarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1))


def channels_first(image: Array, dimensions: int) -> Array:
    """Convert (*space) or (*space, C), with this many spatial axes, to (C, *space); a view."""
    return image[None] if image.ndim == dimensions else np.moveaxis(image, -1, 0)


def window_of(array: Array) -> Window:
    """Return a reader of windows of an array in memory."""
    return lambda places: array[places]


Blocks = Iterator[tuple[Places, Array]]
"""Iterator over windows of a mask and their values (C, *space), float32 in [0, 1] and written rounded down,
or labels, uint16."""
Shape = tuple[int, ...]
"""Shape (C, *space), or (C, T, *space) of a time series."""
TIME = re.compile(r"(.+)#t=(\d+)")
"""Pattern of a name that selects one time point of a file."""


def at_time(path: Path) -> tuple[Path, int | None]:
    """Split FILE#t=3 into (FILE, 3); return (path, None) for other names, and for files that exist."""
    match = TIME.fullmatch(path.name)
    return (path, None) if match is None or path.exists() else (path.with_name(match[1]), int(match[2]))


def time_point(path: Path, count: int | None, time: int | None, axes: str = "TYX") -> int:
    """Return the index of the requested time point among `count`; 0 where there is no more than one.

    Args:
        path: the file.
        count: its number of time points; None where it has no axis of time.
        time: the requested time point.
        axes: axes with time, as an example for its type of files.
    """
    if count is None and time is not None:
        raise ImageError(
            f"{path} has no time axis: leave out #t={time}, or name its axes, such as --axes {axes}"
        )
    if time is None and (count or 1) > 1:
        raise ImageError(f"{path} has {count} time points: choose one, such as {path.name}#t=0")
    if time is not None and time >= (count or 1):
        raise ImageError(f"{path} has {count} time points, counted from 0: there is no {time}")
    return time or 0


def rounded_down(values: Array, bits: int = 16) -> Array:
    """Return [0, 1] as integers of 8 or 16 bits, rounded down: none, when read back, is above its value.

    Labels, which are integers, are returned as they are.
    """
    if values.dtype == np.uint16:
        return values
    largest = 2.0**bits - 1
    unit = np.clip(values, 0, 1)
    levels: Array = np.floor(unit.astype(np.float64) * largest + 0.5)
    # float32 level / largest may lie just below the exact quotient, so compare what will be read back
    levels -= (levels / largest).astype(np.float32) > unit
    return levels.astype(np.uint8 if bits == 8 else np.uint16)


@dataclass(frozen=True)
class SourceImage:
    """The image that a mask lies over."""

    path: Path | None
    """File of the image, perhaps with #t=3; None for arrays."""
    geometry: Geometry | None
    reading: Reading
    is_film: bool = False
    """True if the mask covers all time points, with an axis of time before those of space."""
    is_labels: bool = False
    """True if labels are written in the place of a mask: whole numbers, as they are."""

    @property
    def file_and_time(self) -> tuple[Path | None, int | None]:
        """File and time point of the image: (FILE, 3) for FILE#t=3."""
        return (None, None) if self.path is None else at_time(self.path)


SegmentationWriter = Callable[[Path, Array, SourceImage, str], None]
"""Function that writes where a mask over an image is below 1, and what is promised for the rest."""


@dataclass(frozen=True)
class Format:
    """A file type: how it is read, and how images and masks are written to it."""

    open: Callable[[Path, Reading, int | None], AbstractContextManager[ImageHandle]]
    """Function that opens a file, perhaps at one time point; it reads the header, and pixels on demand."""
    write: Callable[[Path, Array], None] | None = None
    """Function that writes an image (H, W) or (H, W, C); None for types without it."""
    holds_floats: bool = False
    """True if images are written as float32 of any axes and channels; else 8 or 16 bits, 1 or 3 channels."""
    write_over: Callable[[Path, Array, SourceImage], None] | None = None
    """Function that writes an image (C, *space) as float32 in the place of its source; None without it."""
    rescales: bool = False
    """True if `write_over` fits the size of pixels to an image that has more or fewer than its source."""
    write_segmentation: SegmentationWriter | None = None
    """Function that writes a segmentation; None for types without it."""
    write_blocks: Callable[[Path, Shape, Blocks, int, SourceImage], None] | None = None
    """Function that writes a 16-bit mask from blocks of a given side; None where no mask is written."""
    any_channels: bool = False
    """True if a mask of this type may have other than 1 or 3 channels."""
    volumes: bool = False
    """True if a mask of this type may be of a volume."""
    films: bool = False
    """True if a mask of this type may have an axis of time."""
    mask_suffix: str | None = ".png"
    """Suffix of the mask of an image of this type; None for the image's own."""
    is_folder: bool = False
    recognises: Callable[[Path], bool] | None = None
    """Function that says whether a folder, or a file that shares its suffix, is of this type; else None."""
    companions: Callable[[Path], list[Path]] | None = None
    """Function that lists the other files with pixels of a file; None where all lie in the file."""
    times: Callable[[Path, Reading], int | None] | None = None
    """Function that returns a file's number of time points, None without time; None if no file has time."""


SMALLEST = 512
"""Side, in pixels: a level whose plane fits into it has no smaller one."""
Factors = tuple[int, ...]
"""Factor of each axis: 2 where it is halved, else 1."""


def halvings(space: tuple[int, ...], spacing: tuple[float, ...] | None) -> Iterator[Factors]:
    """Yield factors from level to level, of (*others, H, W), until a plane fits into SMALLEST pixels.

    The finest axes are halved first, so that the spacing becomes isotropic; without a spacing only y and x
    are halved.
    """
    steps = spacing or (*[math.inf] * (len(space) - 2), 1.0, 1.0)
    while max(space[-2:]) > SMALLEST:
        finest = min(step for step, side in zip(steps, space, strict=True) if side > 1)
        factors = tuple(
            2 if side > 1 and step < 2 * finest else 1 for step, side in zip(steps, space, strict=True)
        )
        yield factors
        steps = tuple(step * factor for step, factor in zip(steps, factors, strict=True))
        space = halved(space, factors)


def halved(shape: tuple[int, ...], factors: Factors) -> tuple[int, ...]:
    """Return the sides of the next level; odd sides are rounded up."""
    return tuple(-(-side // factor) for side, factor in zip(shape, factors, strict=True))


def means(values: Array, factors: Factors) -> Array:
    """Return means of neighbours along axes with factor 2, uint16, rounded down; odd last ones are kept."""
    odd = [(0, side % factor) for side, factor in zip(values.shape, factors, strict=True)]
    sums: Array = np.pad(values, odd, mode="edge").astype(np.uint32)
    for axis, factor in enumerate(factors):
        if factor == 2:
            pairs = np.moveaxis(sums, axis, 0)
            sums = np.moveaxis(pairs[::2] + pairs[1::2], 0, axis)
    return (sums // math.prod(factors)).astype(np.uint16)


def fill_level(smaller: Any, larger: Any, factors: Factors, block: tuple[int, ...]) -> None:
    """Fill a level with the means of the larger one; both are arrays of any kind with shape and windows."""
    for places in blocks_of(smaller.shape, block):
        window = tuple(
            slice(span.start * factor, min(span.stop * factor, side))
            for span, factor, side in zip(places, factors, larger.shape, strict=True)
        )
        smaller[places] = means(larger[window], factors)


def blocks_of(shape: tuple[int, ...], block: tuple[int, ...]) -> Iterator[Places]:
    """Yield the place of each block, in C order."""
    starts = (range(0, side, step) for side, step in zip(shape, block, strict=True))
    for corner in product(*starts):
        yield tuple(
            slice(start, min(start + step, side))
            for start, step, side in zip(corner, block, shape, strict=True)
        )


MAX_IMAGE_BYTES = 2 * 2**30
"""Largest size of an image as float32, unless the environment variable VARIABLE sets another."""
VARIABLE = "CONFORMASK_MAX_IMAGE_BYTES"
FLOAT32 = 4
"""Bytes per value in memory."""
SMALL = 2**22
"""Largest array, in bytes, that is kept in memory without a file."""


def check_memory(item: str, size: int) -> None:
    """Raise if an item, as messages call it, takes more bytes of memory than allowed."""
    limit = _limit()
    if size > limit:
        raise ImageError(
            f"{item} takes {size} bytes of memory, but only {limit} are allowed: cut it into smaller "
            f"images, or set CONFORMASK_MAX_IMAGE_BYTES to {size}"
        )


def _limit() -> int:
    value = os.environ.get(VARIABLE, str(MAX_IMAGE_BYTES))
    if not (value.isascii() and value.isdigit()):
        raise InvalidArgumentError(f"{VARIABLE} is {value!r}; give a number of bytes, such as 4294967296")
    return int(value)


def check_disk(
    item: str,
    size: int,
    folder: Path | None = None,
    remedy: str = "set TMPDIR to another folder",
    error: type[ImageError | OutputError] = OutputError,
) -> None:
    """Raise if a folder, by default the one for temporary files, has no room for this many bytes."""
    folder = folder or Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    if free < size:
        raise error(
            f"{item} needs {size / 1e9:.1f} GB in {folder}, but only {free / 1e9:.1f} GB are free: {remedy}"
        )


class DiskArray:
    """An array in an unnamed temporary file, mapped again for each window, so that no window stays in memory.

    With `reserve` a full disk raises an OSError at once; without it the file grows with what is written. A
    small array needs no file.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], folder: Path | None = None, reserve: bool = False
    ) -> None:
        self.shape, self.dtype = shape, dtype
        size = prod(shape) * dtype.itemsize
        self._small = np.zeros(shape, dtype) if size <= SMALL else None
        if self._small is not None:
            return
        self._file = file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, file.close)
        # a write to a mapped page for which the disk has no room would kill the process (SIGBUS)
        if reserve and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        file.truncate(size)

    def mapped(self) -> Array:
        """Return the whole array, mapped; touched parts stay in memory as long as a view of it."""
        if self._small is not None:
            return self._small
        return np.memmap(self._file, self.dtype, "r+", shape=self.shape)

    def __getitem__(self, places: tuple[slice, ...]) -> Array:
        return np.array(self.mapped()[places])

    def __setitem__(self, places: tuple[slice, ...], values: Array) -> None:
        self.mapped()[places] = values


def zeros_on_disk(item: str, shape: tuple[int, ...]) -> Array:
    """Return zeros, float32, in a temporary file, whose pages the system may drop from memory."""
    check_disk(item, FLOAT32 * prod(shape))
    return DiskArray(shape, np.dtype(np.float32)).mapped()
