"""Descriptions of file types: all that conformask needs to know about each, in one object in its module."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conformask.data.formats.header import ImageHandle, Places
from conformask.errors import ImageError
from conformask.records.geometry import Geometry
from conformask.records.reading import Reading
from conformask.storage.as_arrays import Array

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

    Raises:
        ImageError: there are several time points and none is named, or there is none with this number.
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
    """Function that says whether a folder without a suffix is an image of this type; None for other types."""
    companions: Callable[[Path], list[Path]] | None = None
    """Function that lists the other files with pixels of a file; None where all lie in the file."""
    times: Callable[[Path, Reading], int | None] | None = None
    """Function that returns a file's number of time points, None without time; None if no file has time."""
