"""Images in and out: files and arrays of a declared range become float32 (C, *space) in [0, 1], and back."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from conformask.data.datasets import UnreadImage
from conformask.data.decoding import companions_of, decode_with_header, is_image, name_and_suffix, read_header
from conformask.data.formats import FORMATS, image_suffixes
from conformask.data.formats.format import at_time, rounded_down
from conformask.data.formats.header import DataRange as DataRange
from conformask.data.formats.header import Header, header_of, image_of_array
from conformask.data.formats.header import channels_last as channels_last
from conformask.errors import ImageError, InvalidArgumentError, MissingFileError
from conformask.records.reading import PLAIN, Reading
from conformask.storage.as_arrays import Array, hash_of_arrays
from conformask.storage.as_json import hash_of
from conformask.storage.atomic import atomic_write
from conformask.storage.hashes import hash_of_parts
from conformask.storage.sealed import path_hash

Image = Float[np.ndarray, "_ ..."]

TOLERANCE = 1e-6
"""Largest rounding error outside [0, 1] that a value may have, relative to the data range."""
HASH_LEVELS = 65535
"""Largest integer to which pixels are rounded for hashes: 16 bits."""
BLOCK = 2**20
"""Number of values that are worked on at once, in float64."""
LONGEST_NAME = 255 - len(".ome.tiff")
"""Longest name, in bytes, that leaves room for a suffix."""


def read_image(path: Path | str, reading: Reading = PLAIN) -> Image:
    """Read an image file of any type as float32 (C, *space) in [0, 1]; see `image_and_header`."""
    return image_and_header(Path(path), reading)[0]


def image_and_header(
    image: UnreadImage, reading: Reading = PLAIN, name: str = "the array"
) -> tuple[Image, Header]:
    """Read an image as float32 (C, *space) in [0, 1], with its header; `reading` is that of its role.

    Alpha is dropped, palettes become RGB, the orientation is applied. The range follows from the bits of the
    file, 8 bit (0, 255), 12 bit (0, 4095), 16 bit (0, 65535), float (0, 1), unless it is given; it is never
    guessed from the content.

    Raises:
        MissingFileError: there is no such file.
        ImageError: it cannot be decoded, has several time points, takes more memory than allowed, or holds
            NaN or values outside the range; messages call an array `name`.
    """
    if isinstance(image, Path):
        name, (array, header) = str(image), decode_with_header(image, reading)
    else:
        array, header = image_of_array(np.asarray(image), name, reading.axes)
    unit = to_unit(array, header, reading, name)
    if reading.clip is None:
        return unit, header
    return unit, replace(header, clipped=count_clipped(array, header, reading, name) / array.size)


def count_clipped(array: Array, header: Header, reading: Reading, name: str) -> int:
    """Return how many values lie outside the range, and are clipped to it by `to_unit`."""
    low, high = _ends(array, header, reading, name)
    return sum(int(((block < low) | (block > high)).sum()) for block in _blocks(array, 0))


def header_of_image(image: UnreadImage, reading: Reading = PLAIN, name: str = "the array") -> Header:
    """Return the header of an image, which is not decoded; messages call an array `name`."""
    if isinstance(image, Path):
        return read_header(image, reading)
    return header_of(np.asarray(image), name, reading.axes)


def image_hash(image: UnreadImage) -> str:
    """Return a hash of the content of an image's file, or files, and of its time point; or of an array."""
    if not isinstance(image, Path):
        return hash_of_arrays({"image": np.asarray(image)})
    file, time = at_time(image)
    hashes = [path_hash(part) for part in (file, *companions_of(file))]
    digest = hashes[0] if len(hashes) == 1 else hash_of(hashes)
    return digest if time is None else f"{digest}-{time}"


@np.errstate(over="ignore", invalid="ignore")  # what overflows lies outside the range
def to_unit(array: Array, header: Header, reading: Reading, name: str) -> Image:
    """Map (low, high), else the range of the header, to [0, 1]: (*space[, C]) to float32 (C, *space).

    It works block by block, so that only the result is in memory besides the array. NaN stays if reading.nan
    is set.
    """
    low, high = _ends(array, header, reading, name)
    pixels = array[..., None] if array.ndim == len(header.space) else array
    unit = np.empty((pixels.shape[-1], *pixels.shape[:-1]), np.float32)
    lowest, highest = math.inf, -math.inf
    for part, block in zip(_blocks(unit, 1), _blocks(pixels, 0), strict=True):
        values = _finite(block, name, nan=reading.nan is not None)
        lowest = min(lowest, float(np.fmin.reduce(values, axis=None)))
        highest = max(highest, float(np.fmax.reduce(values, axis=None)))
        inside = np.clip((values - low) / (high - low), 0, 1)
        part[...] = np.moveaxis(1 - inside if reading.turned else inside, -1, 0)
    if reading.clip != "all":
        _check_inside(lowest, highest, (low, high), name, reading)
    return unit


def _blocks(image: Array, first: int) -> list[Array]:
    """Return views of about BLOCK values, along the longest side; `first` is the first spatial axis."""
    last = image.ndim - 1 + first
    axis = max(range(first, last), key=lambda place: image.shape[place])
    parts = min(image.shape[axis], 1 + image.size // BLOCK)
    return [image] if parts == 1 else np.array_split(image, parts, axis)


def _finite(block: Array, name: str, *, nan: bool) -> Array:
    """Return the block as float64; raise ImageError for infinite values, and for NaN unless `nan` is set."""
    values: Array = block.astype(np.float64)
    if not nan and np.isnan(values).any():
        raise ImageError(
            f"{name} contains NaN: replace it before use, or declare it to be outside the region that the "
            "promise is about, nan='outside' (--nan-is-outside)"
        )
    if np.isinf(values).any():
        raise ImageError(f"{name} contains infinite values; replace them before use")
    return values


def _ends(array: Array, header: Header, reading: Reading, name: str) -> DataRange:
    """Return the values that become 0 and 1."""
    ends = reading.ends(header.data_range, header.bits)
    if ends is None:
        raise ImageError(
            f"{name} contains {array.dtype}, which does not define its range (uint8, uint16 and floats do); "
            f"give it as {_argument(reading)}"
        )
    return ends if ends == header.data_range else _checked_range(ends)


def _argument(reading: Reading) -> str:
    """Return the arguments, in Python and on the command line, that state the range of an image."""
    of_all = "data_range=(low, high) or --data-range LOW HIGH"
    return f"{of_all}, of x alone x_range=(low, high) or --x-range LOW HIGH" if reading.is_x else of_all


def _checked_range(data_range: DataRange) -> DataRange:
    try:
        low, high = map(float, data_range)
    except OverflowError:
        low = high = math.nan
    width, step = high - low, math.ulp(max(abs(low), abs(high)))
    if not (math.isfinite(width) and step <= TOLERANCE * width):
        raise InvalidArgumentError(
            f"data_range is {data_range}; give two finite numbers, low < high, that differ in float64, such "
            "as (0, 4095)"
        )
    return low, high


def _check_inside(
    lowest: float, highest: float, data_range: DataRange, name: str, reading: Reading = PLAIN
) -> None:
    low, high = data_range
    slack = TOLERANCE * (high - low)
    if lowest >= low - slack and highest <= high + slack:
        return
    extreme = highest if highest - high > low - lowest else lowest
    raise ImageError(
        f"{name} contains the value {extreme:.6g}, outside its range ({low:g}, {high:g}); give the right "
        f"range as {_argument(reading)}"
    )


def write_image(path: Path | str, image: Image, bits: int = 8, round_down: bool = False) -> None:
    """Write float (C, H, W) in [0, 1], C = 1 or 3, as 8- or 16-bit PNG or TIFF, or any as float32 npy.

    Values are rounded to the nearest level, or down (for masks): then no value read back is above the
    one given. An image that is already quantised comes back identical.

    Raises:
        ImageError: NaN, values outside [0, 1], or channels that the file cannot hold.
        InvalidArgumentError: another suffix or number of bits.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    kind = FORMATS.get(path.suffix.lower())
    if kind is None or kind.write is None:
        suffixes = sorted(suffix for suffix, kind in FORMATS.usable().items() if kind.write)
        raise InvalidArgumentError(
            f"cannot write {path}: the suffix {path.suffix!r} is not supported; choose from {suffixes}"
        )
    _check_writable(path, image, kind.holds_floats)
    content = image.astype(np.float32) if kind.holds_floats else levels(image, bits, round_down)
    with atomic_write(path) as aside:
        kind.write(aside, channels_last(content))


def quantised(image: Image, bits: int) -> Image:
    """Return the image as it is read back from a file of 8 or 16 bits, float32."""
    return (levels(image, bits, False) / (2.0**bits - 1)).astype(np.float32)


def levels(image: Image, bits: int, round_down: bool) -> Array:
    """Convert [0, 1] to integers of 8 or 16 bits; rounded down, no value read back is above the one given."""
    if bits not in (8, 16):
        raise InvalidArgumentError(f"bits is {bits}; choose 8 or 16")
    if round_down:
        return rounded_down(image, bits)
    nearest: Array = np.floor(np.clip(image, 0, 1).astype(np.float64) * (2.0**bits - 1) + 0.5)
    return nearest.astype(np.uint8 if bits == 8 else np.uint16)


def _check_writable(path: Path, image: Image, holds_floats: bool) -> None:
    if image.size == 0 or not (holds_floats or (image.ndim == 3 and len(image) in (1, 3))):
        raise ImageError(
            f"{path} cannot store an image of shape {image.shape}; give one of shape (1 or 3, H, W)"
        )
    if not np.isfinite(image).all():
        raise ImageError(f"the image for {path} contains NaN or infinite values")
    _check_inside(float(image.min()), float(image.max()), (0.0, 1.0), f"the image for {path}")


def list_images(folder: Path | str, recursive: bool = False) -> list[Path]:
    """Return the images of a folder, sorted, without hidden ones and files in a folder that is one image.

    Raises:
        MissingFileError: there is no such folder, or no image in it.
        InvalidArgumentError: a name that could not name a file in an output folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder")
    paths = folder.rglob("*") if recursive else folder.iterdir()
    candidates = {path for path in paths if _is_image(path, folder)}
    # a zarr or a series is one image, whatever lies in its folder
    images = sorted(path for path in candidates if candidates.isdisjoint(path.parents))
    if not images:
        where = "" if recursive else " directly"
        raise MissingFileError(
            f"{folder} contains no images{where}: files that end with {', '.join(image_suffixes())}, or "
            "folders with one DICOM series each"
        )
    for path in images:
        check_name(name_and_suffix(path)[0], repr(str(path)))
    return images


def _is_image(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and is_image(path)


def check_name(name: str, where: str) -> None:
    """Refuse a name that cannot name a file in an output folder."""
    if not name or name.startswith(".") or any(sign in "/\\" or sign < " " for sign in name):
        raise InvalidArgumentError(
            f"{where}: name {name!r} becomes a file name, so it must not be empty, start with a dot, or "
            "contain slashes, line breaks or other control characters"
        )
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(
            f"{where}: name {name!r} contains bytes that are not UTF-8; rename it"
        ) from error
    if size > LONGEST_NAME:
        raise InvalidArgumentError(
            f"{where}: name {name!r} becomes a file name, but has {size} bytes; rename it to at most "
            f"{LONGEST_NAME}"
        )


def pixel_hash(image: Image) -> str:
    """Return 16 hex digits that identify an image (C, *space) in [0, 1], at 16 bits per pixel."""

    def parts() -> Iterator[bytes]:
        yield repr(image.shape).encode()
        for block in np.array_split(image.reshape(-1), 1 + image.size // BLOCK):
            yield np.rint(block.astype(np.float64) * HASH_LEVELS).astype("<u2").tobytes()

    return hash_of_parts(parts())[:16]


def hash_unless_constant(image: Image | None) -> str | None:
    """Return the pixel hash of an image; None for none, and for constant ones, which are all alike."""
    return None if image is None or is_constant(image) else pixel_hash(image)


def is_constant(image: Image) -> bool:
    """Return whether every channel has one value only (an empty field, a black tile)."""
    first = image.reshape(len(image), -1)[:, :1]
    return bool((image.reshape(len(image), -1) == first).all())
