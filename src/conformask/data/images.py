"""Images in and out: files and arrays of a declared range become float32 (C, H, W) in [0, 1], and back."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from conformask.data.decoding import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from conformask.data.decoding import decode, is_image
from conformask.errors import ImageError, InvalidArgumentError, MissingFileError
from conformask.results import whole_file
from conformask.types import Array

DataRange = tuple[float, float]
"""(low, high): the values that become 0 and 1."""
Image = Float[np.ndarray, "_ _ _"]

TOLERANCE = 1e-6
"""How far outside [0, 1] rounding may leave a value."""
HASH_LEVELS = 65535


def read_image(path: Path | str, data_range: DataRange | None = None) -> Image:
    """Read PNG, JPEG, TIFF, npy or OME-Zarr as float32 (C, H, W) in [0, 1].

    Alpha is dropped, palettes become RGB. The range follows from the file's type, 8 bit (0, 255), 16 bit
    (0, 65535), float (0, 1), unless it is given; it is never guessed from the content.

    Raises:
        MissingFileError: there is no such file.
        ImageError: it cannot be decoded, is a stack, or holds NaN or values outside the range.
    """
    return to_unit(decode(Path(path)), data_range, str(path))


def from_user_array(array: Array, data_range: DataRange | None = None, name: str = "the array") -> Image:
    """An image (H, W) or (H, W, C) as float32 (C, H, W) in [0, 1], by the rules of read_image.

    Raises:
        ImageError: another shape or type, NaN, or values outside the range; calls the image `name`.
    """
    return to_unit(np.asarray(array), data_range, name)


def to_unit(array: Array, data_range: DataRange | None, name: str) -> Image:
    """Map (low, high) of an image (H, W) or (H, W, C) to [0, 1], as float32 (C, H, W)."""
    planes = _channels_first(array, name)
    low, high = _range_of(planes, name) if data_range is None else _checked_range(data_range)
    unit = (planes.astype(np.float64) - low) / (high - low)
    if not np.isfinite(unit).all():
        raise ImageError(f"{name} holds NaN or infinite values; replace them before use")
    _check_inside(unit, low, high, name)
    return np.clip(unit, 0, 1).astype(np.float32)


def _channels_first(array: Array, name: str) -> Array:
    if array.ndim not in (2, 3) or array.size == 0:
        raise ImageError(f"{name} has shape {array.shape}, an image is (H, W) or (H, W, C)")
    if array.ndim == 2:
        return array[None]
    if array.shape[0] <= 4 < array.shape[2]:
        raise ImageError(f"{name} has shape {array.shape}: put the channels last, (H, W, C)")
    return np.ascontiguousarray(np.moveaxis(array, -1, 0))


def _range_of(array: Array, name: str) -> DataRange:
    if array.dtype.kind in "bf":
        return 0.0, 1.0
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return 0.0, float(np.iinfo(array.dtype).max)
    raise ImageError(
        f"{name} holds {array.dtype}, which does not say its range (uint8, uint16 and floats do); "
        "give it as data_range=(low, high) or --data-range LOW HIGH"
    )


def _checked_range(data_range: DataRange) -> DataRange:
    low, high = map(float, data_range)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidArgumentError(
            f"data_range is {data_range}; give two finite numbers, low < high, such as (0, 4095)"
        )
    return low, high


def _check_inside(unit: Array, low: float, high: float, name: str) -> None:
    least, most = float(unit.min()), float(unit.max())
    if least >= -TOLERANCE and most <= 1 + TOLERANCE:
        return
    extreme = low + (high - low) * (most if most - 1 > -least else least)
    raise ImageError(
        f"{name} holds the value {extreme:.6g}, outside its range ({low:g}, {high:g}); "
        "give the right range as data_range=(low, high) or --data-range LOW HIGH"
    )


def write_image(path: Path | str, image: Image, bits: int = 8, round_down: bool = False) -> None:
    """Write float (C, H, W) in [0, 1], C = 1 or 3, as 8- or 16-bit PNG or TIFF, or as float32 npy.

    Values are rounded to the nearest level, or down (for masks): then no value read back is above the
    one given. An image that is already quantised comes back identical.

    Raises:
        ImageError: NaN, values outside [0, 1], or channels that the file cannot hold.
        InvalidArgumentError: another suffix or number of bits.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    writer = _writer(path)
    _check_writable(path, image)
    content = image.astype(np.float32) if path.suffix.lower() == ".npy" else levels(image, bits, round_down)
    with whole_file(path) as aside:
        writer(aside, channels_last(content))


def channels_last(image: Array) -> Array:
    """(C, H, W) as files hold it: (H, W) where there is one channel, else (H, W, C)."""
    return np.ascontiguousarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1))


def quantised(image: Image, bits: int) -> Image:
    """The image as it is read back from a file of 8 or 16 bits, float32."""
    return (levels(image, bits, False) / (2.0**bits - 1)).astype(np.float32)


def levels(image: Image, bits: int, round_down: bool) -> Array:
    """[0, 1] as integers of 8 or 16 bits; rounded down, no value read back is above the one given."""
    if bits not in (8, 16):
        raise InvalidArgumentError(f"bits is {bits}; choose 8 or 16")
    top = 2.0**bits - 1
    unit = np.clip(image, 0, 1)
    level: Array = np.floor(unit.astype(np.float64) * top + 0.5)
    if round_down:
        # float32 level / top may lie just below the exact quotient, so compare what will be read back
        level -= (level / top).astype(np.float32) > unit
    return level.astype(np.uint8 if bits == 8 else np.uint16)


def _check_writable(path: Path, image: Image) -> None:
    if image.ndim != 3 or image.size == 0 or (path.suffix.lower() != ".npy" and len(image) not in (1, 3)):
        raise ImageError(f"{path} cannot hold an image of shape {image.shape}; it takes (1 or 3, H, W)")
    if not np.isfinite(image).all():
        raise ImageError(f"the image for {path} holds NaN or infinite values")
    _check_inside(image, 0.0, 1.0, f"the image for {path}")


def _writer(path: Path) -> Callable[[Path, Array], None]:
    if path.suffix.lower() not in _WRITERS:
        raise InvalidArgumentError(
            f"cannot write {path}: suffix {path.suffix!r}; choose from {sorted(_WRITERS)}"
        )
    return _WRITERS[path.suffix.lower()]


def write_png(path: Path, array: Array) -> None:
    """Write integers (H, W) or (H, W, 3) of 8 or 16 bits."""
    import imagecodecs

    path.write_bytes(imagecodecs.png_encode(array))


def _write_tiff(path: Path, array: Array) -> None:
    import tifffile

    kind = "minisblack" if array.ndim == 2 else "rgb"
    tifffile.imwrite(path, array, photometric=kind, compression="zlib")


def _write_npy(path: Path, array: Array) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


_WRITERS = {".png": write_png, ".tif": _write_tiff, ".tiff": _write_tiff, ".npy": _write_npy}


def list_images(folder: Path | str, recursive: bool = False) -> list[Path]:
    """The image files of a folder, sorted; hidden files and folders are passed over.

    Raises:
        MissingFileError: there is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder")
    found = folder.rglob("*") if recursive else folder.iterdir()
    images = sorted(path for path in found if _is_image(path, folder))
    if not images:
        deep = "" if recursive else " directly"
        raise MissingFileError(f"{folder} holds no images{deep}; they end in {', '.join(IMAGE_SUFFIXES)}")
    return images


def _is_image(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and is_image(path)


def check_name(name: str, where: str) -> None:
    """Refuse a name that cannot name a file in an output folder."""
    if not name or name.startswith(".") or any(sign in name for sign in "/\\\0"):
        raise InvalidArgumentError(
            f"{where}: name {name!r} becomes a file name, so it must not be empty, hold slashes or start "
            "with a dot"
        )


def pixel_hash(image: Image) -> str:
    """16 hex digits that tell images (C, H, W) in [0, 1] apart, at 16 bits a pixel."""
    pixels = np.rint(image.astype(np.float64) * HASH_LEVELS).astype("<u2")
    return hashlib.sha256(repr(image.shape).encode() + pixels.tobytes()).hexdigest()[:16]


def is_constant(image: Image) -> bool:
    """Whether every channel has one value only (an empty field, a black tile)."""
    return bool((image == image[:, :1, :1]).all())
