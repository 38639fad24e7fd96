"""Image files to arrays of the file's own type, (H, W) or (H, W, C): alpha dropped, palettes looked up."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from conformask.data.ome_zarr import decode_zarr, open_level
from conformask.errors import ConformaskError, ImageError, MissingFileError
from conformask.types import Array

T = TypeVar("T")
Rows = Callable[[int, int], Array]
"""(top, bottom) -> rows of the whole width, (h, W) or (h, W, C), in the file's own type."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_DEPTH_AT = 24
PNG_GREY = (0, 4)
"""Colour types, the byte after the depth."""
EXIF_ORIENTATION = 0x0112
SIDEWAYS = 5
"""From this EXIF orientation on, height and width change places."""
ZARR = ".zarr"
MODES = {"1": "L", "L": "L", "LA": "L", "La": "L", "I;16": "L", "I;16B": "L", "I": "L"}
"""What a Pillow mode is converted to; all others become RGB."""


@dataclass(frozen=True)
class Header:
    """What a file says of its image without being decoded: its shape, and 8 or 16 bits (16 for floats)."""

    channels: int
    height: int
    width: int
    bits: int


def decode(path: Path) -> Array:
    """The pixels of a file, in the file's own type, (H, W) or (H, W, C).

    Raises:
        MissingFileError: there is no such file.
        ImageError: it cannot be decoded, or is a stack of images.
    """
    return _attempt(path, _DECODERS)


def read_header(path: Path) -> Header:
    """The shape and bits of a file's image, as decode would give them.

    Raises:
        MissingFileError: there is no such file.
        ImageError: its header cannot be read, or it is a stack of images.
    """
    return _attempt(path, _HEADERS)


def open_rows(path: Path) -> Rows:
    """The pixels of a file, rows at a time, as decode would give them.

    OME-Zarr and npy are read as they are asked for; a compressed TIFF is decoded once, into a temporary file;
    PNG and JPEG are decoded whole.

    Raises:
        MissingFileError: there is no such file.
        ImageError: it cannot be decoded, or is a stack of images.
    """
    return _attempt(path, _ROWS)


def name_and_suffix(path: Path) -> tuple[str, str]:
    """("NAME", ".ome.tif") of NAME.ome.tif, ("NAME", ".png") of NAME.png."""
    stem, suffix = path.stem, path.suffix.lower()
    return (stem[:-4], f".ome{suffix}") if stem.lower().endswith(".ome") and stem[:-4] else (stem, suffix)


def is_image(path: Path) -> bool:
    """Whether there is something that could be read: an image file, or the folder of an OME-Zarr image."""
    suffix = path.suffix.lower()
    return suffix in IMAGE_SUFFIXES and (path.is_dir() if suffix == ZARR else path.is_file())


def header_of(array: Array) -> Header:
    """The header of an image (H, W) or (H, W, C) in memory."""
    if array.ndim not in (2, 3):
        raise ImageError(f"an image is (H, W) or (H, W, C), not {array.shape}")
    height, width, channels = (*array.shape, 1)[:3]
    return Header(channels, height, width, bits_of(array.dtype))


def bits_of(dtype: np.dtype[Any]) -> int:
    """The bits that keep what an image of this type holds: 8 or 16."""
    return 8 if dtype.itemsize == 1 and dtype.kind in "bu" else 16


def _attempt(path: Path, readers: dict[str, Callable[[Path], T]]) -> T:
    if not (path.is_file() or path.is_dir()):
        raise MissingFileError(f"{path} does not exist")
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ImageError(f"{path} has the suffix {path.suffix!r}; images end in {', '.join(readers)}")
    try:
        return reader(path)
    except ConformaskError:
        raise
    except Exception as error:
        raise ImageError(
            f"{path} cannot be read as an image ({error}); it may be truncated, write it again"
        ) from error


def _open(path: Path) -> Pillow.Image:
    image = Pillow.open(path, formats=("PNG", "JPEG"))
    if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
        raise ImageError(f"{path} is an animation; save the wanted frame as an image of its own")
    return image


def _decode_pillow(path: Path) -> Array:
    if _png_kind(path)[0] == 16:
        return _decode_deep_png(path)
    with _open(path) as image:
        upright = ImageOps.exif_transpose(image) if image.format != "PNG" else image
        return np.asarray(upright.convert(MODES.get(upright.mode, "RGB")))


def _png_kind(path: Path) -> tuple[int, int]:
    """Bits and colour type of a PNG; zeros for other files."""
    with path.open("rb") as file:
        head = file.read(PNG_DEPTH_AT + 2)
    is_png = head.startswith(PNG_SIGNATURE) and len(head) == PNG_DEPTH_AT + 2
    return (head[PNG_DEPTH_AT], head[PNG_DEPTH_AT + 1]) if is_png else (0, 0)


def _decode_deep_png(path: Path) -> Array:
    """Pillow would silently read 16-bit colour as 8 bit."""
    import imagecodecs

    array: Array = imagecodecs.png_decode(path.read_bytes())
    if array.ndim == 2 or array.shape[2] in (1, 3):
        return array
    return array[..., 0] if array.shape[2] == 2 else array[..., :3]


def _header_pillow(path: Path) -> Header:
    with _open(path) as image:
        width, height = image.size
        turned = image.format != "PNG" and image.getexif().get(EXIF_ORIENTATION, 1) >= SIDEWAYS
        channels = len(MODES.get(image.mode, "RGB"))
    bits, colour_type = _png_kind(path)
    if bits == 16:
        return Header(1 if colour_type in PNG_GREY else 3, height, width, 16)
    return Header(channels, *((width, height) if turned else (height, width)), 8)


def _decode_tiff(path: Path) -> Array:
    import tifffile

    with tifffile.TiffFile(path) as file:
        series, page = _only_image(path, file)
        array: Array = series.asarray()
        axes: str = series.axes
        return _displayed(path, _channels_last(array, axes), page)


def _map_tiff(path: Path) -> Rows:
    import tifffile

    with tifffile.TiffFile(path) as file:
        series, page = _only_image(path, file)
        array = _channels_last(series.asarray(out="memmap"), series.axes)
        _displayed(path, array[:1], page)  # reads the colours of a palette while the file is open
    return lambda top, bottom: _displayed(path, array[top:bottom], page)


def _only_image(path: Path, file: Any) -> tuple[Any, Any]:
    series = file.series[0]
    planes = [axis for axis in series.axes if axis not in "YXSC"]
    if len(file.series) != 1 or planes or {"S", "C"} <= set(series.axes):
        shapes = ", ".join(f"{each.axes} {each.shape}" for each in file.series)
        raise ImageError(f"{path} is a stack ({shapes}); write each plane to a file of its own")
    return series, series.keyframe


def _channels_last(array: Array, axes: str) -> Array:
    channel = next((index for index, axis in enumerate(axes) if axis in "SC"), None)
    return array if channel is None else np.moveaxis(array, channel, -1)


def _displayed(path: Path, array: Array, page: Any) -> Array:
    kind = page.photometric.name
    if kind == "PALETTE":
        colours: Array = (np.asarray(page.colormap) >> 8).astype(np.uint8)
        return np.moveaxis(colours[:, array], 0, -1)
    if kind == "MINISWHITE":
        return ~array if array.dtype.kind == "b" else np.iinfo(array.dtype).max - array
    if kind not in ("MINISBLACK", "RGB", "YCBCR"):
        raise ImageError(f"{path} has {kind} colours; save it as grey or RGB")
    return array[..., :3] if kind == "RGB" else _without_alpha(array, page)


def _without_alpha(array: Array, page: Any) -> Array:
    has_alpha = array.ndim == 3 and array.shape[2] == 2 and bool(page.extrasamples)
    return array[..., 0] if has_alpha else array


def _header_tiff(path: Path) -> Header:
    import tifffile

    with tifffile.TiffFile(path) as file:
        series, page = _only_image(path, file)
        sides = dict(zip(series.axes, series.shape, strict=True))
        samples = int(sides.get("S") or sides.get("C") or 1)
        kind = page.photometric.name
        alpha = kind == "MINISBLACK" and samples == 2 and bool(page.extrasamples)
        channels = 3 if kind in ("RGB", "PALETTE") else 1 if alpha else samples
        bits = 8 if kind == "PALETTE" else bits_of(np.dtype(series.dtype))
        return Header(channels, sides["Y"], sides["X"], bits)


def _decode_npy(path: Path) -> Array:
    array: Array = np.load(path, allow_pickle=False)
    return array


def _header_npy(path: Path) -> Header:
    return header_of(np.load(path, mmap_mode="r", allow_pickle=False))


def _map_npy(path: Path) -> Rows:
    return _rows_of(np.load(path, mmap_mode="r", allow_pickle=False))


def _header_zarr(path: Path) -> Header:
    level = open_level(path)
    return Header(*level.shape, bits_of(level.array.dtype))


def _rows_zarr(path: Path) -> Rows:
    return open_level(path).rows


def _rows_pillow(path: Path) -> Rows:
    return _rows_of(_decode_pillow(path))


def _rows_of(array: Array) -> Rows:
    return lambda top, bottom: array[top:bottom]


_DECODERS: dict[str, Callable[[Path], Array]] = {
    ".png": _decode_pillow,
    ".jpg": _decode_pillow,
    ".jpeg": _decode_pillow,
    ".tif": _decode_tiff,
    ".tiff": _decode_tiff,
    ".npy": _decode_npy,
    ZARR: decode_zarr,
}
_HEADERS: dict[str, Callable[[Path], Header]] = {
    ".png": _header_pillow,
    ".jpg": _header_pillow,
    ".jpeg": _header_pillow,
    ".tif": _header_tiff,
    ".tiff": _header_tiff,
    ".npy": _header_npy,
    ZARR: _header_zarr,
}
_ROWS: dict[str, Callable[[Path], Rows]] = {
    ".png": _rows_pillow,
    ".jpg": _rows_pillow,
    ".jpeg": _rows_pillow,
    ".tif": _map_tiff,
    ".tiff": _map_tiff,
    ".npy": _map_npy,
    ZARR: _rows_zarr,
}
IMAGE_SUFFIXES = tuple(_DECODERS)
