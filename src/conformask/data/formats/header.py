"""Opened image files of any format: a header, and pixels (*space) or (*space, C) on demand."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from conformask.errors import ConformaskWarning, ImageError
from conformask.records.geometry import Geometry
from conformask.records.size import MOST_CHANNELS, Size
from conformask.storage.as_arrays import Array

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
_WARNED: set[str] = set()
"""Warnings that this process has given."""


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
    """Return the header of an array of numpy or dask: (H, W[, C]), or as the axes say; see `arranged`.

    Raises:
        ImageError: another shape or type; the message names `name`.
    """
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
        raise ImageError(f"{name} has shape {array.shape}: put the channels last, (H, W, C)")
    if channels > MOST_CHANNELS:
        raise ImageError(
            f"{name} has shape {array.shape}: name its axes, axes='ZYX' (--axes ZYX) for a volume, "
            "axes='YXC' for an image with that many channels"
        )
    return Header(channels, (height, width), bits_of(array.dtype), range_of(array.dtype, name))


def arranged(array: Any, axes: str, name: str = "the array") -> Any:
    """Return a view (*space, C) of an array of numpy or dask whose axes, in its order, are letters of CZYX.

    Raises:
        ImageError: another number of axes than the array has, or an empty array.
    """
    if array.ndim != len(axes) or array.size == 0:
        raise ImageError(f"{name} has shape {array.shape}, which does not match the given axes {axes}")
    view = array.transpose([axes.index(axis) for axis in "ZYXC" if axis in axes])
    return view if "C" in axes else view[..., None]


def image_of_array(array: Any, name: str = "the array", axes: str | None = None) -> tuple[Any, Header]:
    """Return an array as an image (*space) or (*space, C), with its header; see `header_of`.

    Raises:
        ImageError: another shape or type; the message names `name`.
    """
    header = header_of(array, name, axes)
    return array if axes is None else arranged(array, axes, name), header


def bits_of(dtype: np.dtype[Any]) -> int:
    """Return the bits that keep the values of this type: 8 or 16."""
    return 8 if dtype.itemsize == 1 and dtype.kind in "bu" else 16


def range_of(dtype: np.dtype[Any], name: str) -> DataRange | None:
    """Return the range that a type implies, None if it implies none.

    Raises:
        ImageError: the type holds neither integers nor floats.
    """
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
    if transparent and not _WARNED:
        _WARNED.add("transparent")
        warnings.warn(
            f"{path}: {transparent:.1%} of its pixels are transparent, but alpha is ignored: their stored "
            "colours count like any others, in this image and in others like it",
            category=ConformaskWarning,
            stacklevel=2,
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
