"""What conformask has to know of a file type: one object of this kind for each, in the file of that type."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from conformask.data.formats.opened import Opened, Places
from conformask.records.geometry import Geometry
from conformask.records.reading import Reading
from conformask.types import Array

Blocks = Iterator[tuple[Places, Array]]
"""Windows of a mask, and their values (C, *space) float32 in [0, 1]; written rounded down."""
Shape = tuple[int, ...]
"""(C, *space), or (C, T, *space) of a film."""


TIME = re.compile(r"(.+)#t=(\d+)")
"""One time point of a file."""


def at_time(path: Path) -> tuple[Path, int | None]:
    """(FILE, 3) of FILE#t=3."""
    match = TIME.fullmatch(path.name)
    return (path, None) if match is None or path.exists() else (path.with_name(match[1]), int(match[2]))


@dataclass(frozen=True)
class Under:
    """The image that a mask lies over."""

    path: Path | None
    """Its file, perhaps with #t=3; None for arrays."""
    geometry: Geometry | None
    reading: Reading
    is_film: bool = False
    """Whether the mask is one of all time points, with an axis of time before those of space."""

    @property
    def file_and_time(self) -> tuple[Path | None, int | None]:
        """(FILE, 3) of FILE#t=3."""
        return (None, None) if self.path is None else at_time(self.path)


@dataclass(frozen=True)
class Format:
    """A file type: how it is read, and how images and masks are written to it."""

    suffixes: tuple[str, ...]
    """In lower case, the dot included."""
    open: Callable[[Path, Reading, int | None], AbstractContextManager[Opened]]
    """Its header, and pixels when they are asked for, perhaps of one time point."""
    write: Callable[[Path, Array], None] | None = None
    """Writes an image (H, W) or (H, W, C); None where only masks are written, or nothing."""
    holds_floats: bool = False
    """Whether images are written as float32 of any axes and channels; else 8 or 16 bits, 1 or 3 channels."""
    write_blocks: Callable[[Path, Shape, Blocks, int, Under], None] | None = None
    """Writes a mask of 16 bits from its blocks, of a given side; None where no mask is written."""
    any_channels: bool = False
    """Whether such a mask may have other than 1 or 3 channels."""
    volumes: bool = False
    """Whether such a mask may be of a volume."""
    films: bool = False
    """Whether it may have an axis of time."""
    mask_suffix: str | None = ".png"
    """Of the mask beside an image of this type; None is the image's own."""
    is_folder: bool = False
    companions: Callable[[Path], list[Path]] | None = None
    """The other files in which pixels of a file lie; None where all lie in it."""
    times: Callable[[Path, Reading], int | None] | None = None
    """How many time points a file has, None where it has no axis of time; None where no file has one."""
