"""What every format makes of a file: a header, and pixels (H, W) or (H, W, C) when they are asked for."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from conformask.errors import ImageError
from conformask.types import Array

DataRange = tuple[float, float]
"""(low, high): the values that become 0 and 1."""
Rows = Callable[[int, int], Array]
"""(top, bottom) -> rows of the whole width, (h, W) or (h, W, C), in the file's own type."""

ORIENTATION = 274
"""The tag, of TIFF and EXIF, that says how to turn the stored pixels."""
SIDEWAYS = 5
"""From this orientation on, height and width change places."""


@dataclass(frozen=True)
class Header:
    """What a file says of its image without being decoded."""

    channels: int
    height: int
    width: int
    bits: int
    """8 or 16: what keeps every value; 16 for floats."""
    data_range: DataRange | None
    """The range of the stored values; None where the file does not say."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    @property
    def values(self) -> int:
        """How many there are."""
        return prod(self.shape)

    def turned(self, orientation: int) -> "Header":
        """The header of the upright image, from that of the stored pixels."""
        return self if orientation < SIDEWAYS else replace(self, height=self.width, width=self.height)


@dataclass(frozen=True)
class Opened:
    """An image file that is open."""

    header: Header
    decode: Callable[[], Array]
    """The pixels, in the file's own type."""
    rows: Callable[[], Rows] | None = None
    """The pixels, rows at a time; None where a format has to be decoded whole."""


def header_of(array: Array, name: str = "the array") -> Header:
    """The header of an image (H, W) or (H, W, C) in memory.

    Raises:
        ImageError: another shape or type; calls the image `name`.
    """
    if array.ndim not in (2, 3) or array.size == 0:
        raise ImageError(f"{name} has shape {array.shape}, an image is (H, W) or (H, W, C)")
    height, width, channels = (*array.shape, 1)[:3]
    if height <= 4 < channels:
        raise ImageError(f"{name} has shape {array.shape}: put the channels last, (H, W, C)")
    return Header(channels, height, width, bits_of(array.dtype), range_of(array.dtype, name))


def bits_of(dtype: np.dtype[Any]) -> int:
    """The bits that keep what an image of this type holds: 8 or 16."""
    return 8 if dtype.itemsize == 1 and dtype.kind in "bu" else 16


def range_of(dtype: np.dtype[Any], name: str) -> DataRange | None:
    """The range that a type states, if it does.

    Raises:
        ImageError: the type holds neither integers nor floats.
    """
    if dtype.kind not in "buif":
        raise ImageError(f"{name} holds {dtype}; an image holds integers or floats")
    if dtype.kind in "bf":
        return 0.0, 1.0
    return range_of_bits(8 * dtype.itemsize) if dtype.kind == "u" and dtype.itemsize <= 2 else None


def range_of_bits(bits: int) -> DataRange:
    """The range of unsigned integers."""
    return 0.0, 2.0**bits - 1


def orientation_of(value: Any) -> int:
    """The orientation that a tag holds, 1 to 8; 1, upright, where it holds none of them."""
    return int(value) if value in range(1, 9) else 1


def upright(array: Array, orientation: int) -> Array:
    """A view of stored pixels (H, W) or (H, W, C), turned as the orientation says."""
    turned = array.swapaxes(0, 1) if orientation >= SIDEWAYS else array
    flip = (orientation - 1) % 4
    rows, columns = (slice(None, None, -1 if flip in flips else 1) for flips in ((2, 3), (1, 2)))
    return turned[rows, columns]


def channels_last(image: Array) -> Array:
    """(C, H, W) as files hold it: (H, W) where there is one channel, else (H, W, C)."""
    return np.ascontiguousarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1))


def rows_of(array: Array) -> Rows:
    """The rows of an array in memory."""
    return lambda top, bottom: array[top:bottom]
