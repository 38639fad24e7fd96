"""What conformask has to know of a file type: one object of this kind for each, in the file of that type."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from conformask.data.formats.opened import Opened
from conformask.types import Array

Blocks = Iterator[tuple[slice, slice, Array]]
"""Rows, columns and values (C, h, w) uint16, row by row."""
Shape = tuple[int, int, int]
"""(C, H, W)."""


@dataclass(frozen=True)
class Format:
    """A file type: how it is read, and how images and masks are written to it."""

    suffixes: tuple[str, ...]
    """In lower case, the dot included."""
    open: Callable[[Path], AbstractContextManager[Opened]]
    """Its header, and pixels when they are asked for."""
    write: Callable[[Path, Array], None] | None = None
    """Writes an image (H, W) or (H, W, C); None where only masks are written, or nothing."""
    holds_floats: bool = False
    """Whether images are written as float32 of any channels; else as 8 or 16 bits, of 1 or 3 channels."""
    write_blocks: Callable[[Path, Shape, Blocks, int], None] | None = None
    """Writes a mask of 16 bits from its blocks, of a given side; None where no mask is written."""
    any_channels: bool = False
    """Whether such a mask may have other than 1 or 3 channels."""
    mask_suffix: str | None = ".png"
    """Of the mask beside an image of this type; None is the image's own."""
    is_folder: bool = False
