"""Images in and out: files of every format and arrays become float32 (C, *space) in [0, 1], and back.

Whatever opens a file raises a MissingFileError if there is none, and an ImageError if it cannot be decoded,
has several time points of which none is named, or takes more memory than allowed.
"""

import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from conformask import extensions
from conformask.errors import (
    ConformaskError,
    ImageError,
    InvalidArgumentError,
    MissingFileError,
    chosen,
    failure_of_system,
)
from conformask.images.formats import (
    FLOAT32,
    Blocks,
    DataRange as DataRange,
    Format,
    Header,
    ImageHandle,
    Places,
    Shape,
    SourceImage,
    Window,
    at_time as at_time,
    blocks_of,
    channels_first,
    channels_last as channels_last,
    check_memory,
    header_of,
    image_of_array,
    rounded_down,
    window_of,
)
from conformask.images.npy_png import JPEG, NPY, NPZ, PNG
from conformask.images.tiff import TIFF
from conformask.records.reading import PERCENTILES, PLAIN, Reading, Size
from conformask.records.record import (
    Array,
    atomic_write,
    hash_of,
    hash_of_arrays,
    hash_of_parts,
    numpy_of,
    path_hash,
)

ROLES = ("x", "y_hat", "y", "cues", "repeat")
"""Images in an item of a dataset, in the order of a tuple."""
AXES = {3: "CYX", 4: "CZYX"}
"""Axes of a tensor by its number of dimensions."""


@dataclass(frozen=True, eq=False)
class DatasetImage:
    """One image of an item of a dataset; np.asarray reads it."""

    dataset: Any
    index: int
    key: str | int

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return the image, with the axes that the dataset gives it."""
        item = self.dataset[self.index]
        try:
            image = item[self.key]
        except (KeyError, IndexError, TypeError) as error:
            raise ImageError(
                f"item {self.index} of the dataset has no {self.key!r}: it is {_text(item)}; name the keys "
                "or positions of x, y_hat and y with keys=(...)"
            ) from error
        array = numpy_of(image)
        return array if dtype is None else array.astype(dtype)


UnreadImage = Path | Array | DatasetImage
"""The file of an image, an array, or an image of a dataset."""


Keys = Sequence[str | int] | Mapping[str, str | int]
"""Keys or positions of the images in an item, in the order of ROLES or by role."""


def images_of(
    dataset: Any, keys: Keys | None, layers: Collection[str]
) -> tuple[dict[str, list[DatasetImage]], str]:
    """Return the images of every item by role or layer, and their axes, taken from the first item."""
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise InvalidArgumentError(
            f"{type(dataset).__name__} has no items by index: give a sequence or a torch Dataset with a "
            "length; for a DataLoader, give its .dataset"
        )
    if len(dataset) == 0:
        raise InvalidArgumentError("the dataset is empty; give at least one item")
    first = dataset[0]
    if keys is None and isinstance(first, Mapping):
        named: dict[str, str | int] = {role: role for role in (*ROLES[:3], *layers) if role in first}
    elif isinstance(keys, Mapping):
        named = dict(keys) if keys.keys() <= {*ROLES[:3], *layers} else {}
    else:
        # a fourth that is not named may be anything, such as a label
        places, most = (range(len(first)), 3) if keys is None else (keys, len(ROLES))
        named = dict(zip(ROLES, places, strict=False)) if len(places) <= most else {}
    if not {"x", "y_hat"} <= named.keys():
        raise InvalidArgumentError(
            f"items are {_text(first)}: give items (x, y_hat) or (x, y_hat, y), or name the keys of x, "
            "y_hat, y, cues and repeat with keys=(...) or keys={'x': ...}"
        )
    images = {
        role: [DatasetImage(dataset, index, key) for index in range(len(dataset))]
        for role, key in named.items()
    }
    shape = np.asarray(images["y_hat"][0]).shape
    dimensions = len(shape)
    if dimensions not in AXES:
        raise ImageError(
            f"y_hat of item 0 has {dimensions} axes: images of a dataset must be (C, H, W) or (C, D, H, W)"
        )
    if shape[-1] <= 4 < shape[0]:
        raise ImageError(
            f"y_hat of item 0 has shape {shape}: put the channels first, (C, H, W) or (C, D, H, W)"
        )
    return images, AXES[dimensions]


def _text(item: Any) -> str:
    if isinstance(item, Mapping):
        return f"a mapping with {list(item)}"
    return f"{type(item).__name__} of {len(item)}" if isinstance(item, Sized) else type(item).__name__


FOLDER = "folder"
"""Name of the format of folders without a suffix, which are recognised by what they hold.

A name such as geotiff.tif is a format of those files with the suffix .tif that it recognises.
"""
FORMATS = extensions.Extensions(
    extensions.FORMATS,
    Format,
    {".png": PNG, ".jpg": JPEG, ".jpeg": JPEG, ".tif": TIFF, ".tiff": TIFF, ".npy": NPY, ".npz": NPZ},
)
"""All file types, by suffix in lower case, and that of folders without one, by FOLDER."""


def image_suffixes() -> tuple[str, ...]:
    """Return the suffixes of images."""
    return tuple(name for name in FORMATS if name.startswith("."))


def format_of(path: Path) -> Format | None:
    """Return the type of a file or folder: one that recognises it, else that of its name, or None."""
    if _is_recognised(path):
        return FORMATS[FOLDER]
    suffix = known_suffix(path)
    names = [name for name in FORMATS if suffix and name.endswith(suffix) and not name.startswith(".")]
    recognising = (
        kind for kind in map(FORMATS.__getitem__, names) if kind.recognises and kind.recognises(path)
    )
    return next(recognising, FORMATS.get(suffix))


def _is_recognised(path: Path) -> bool:
    """Return whether the path is a folder that is one image by what it holds, not by its suffix."""
    if not os.path.isdir(path) or FOLDER not in FORMATS:
        return False
    kind, recognises = FORMATS.get(known_suffix(path)), FORMATS[FOLDER].recognises
    return not (kind and kind.is_folder) and recognises is not None and recognises(path)


def known_suffix(path: Path) -> str:
    """Return the end of a name by which its type is known, such as .nii.gz; else its last part."""
    name = path.name.lower()
    endings = [suffix for suffix in image_suffixes() if name.endswith(suffix)]
    return max(endings, key=len, default=path.suffix.lower())


def suffix_of(path: Path) -> str:
    """Return .ome.tif for NAME.ome.tif, .png for NAME.png, in lower case; "" for a recognised folder."""
    if _is_recognised(path):
        return ""
    name, suffix = path.name.lower(), known_suffix(path)
    stem = name[: len(name) - len(suffix)]
    return f".ome{suffix}" if stem.endswith(".ome") and stem != ".ome" else suffix


def decode(path: Path, reading: Reading = PLAIN) -> Array:
    """Return the pixels of a file, in the file's own type, (*space) or (*space, C)."""
    return decode_with_header(path, reading)[0]


def decode_with_header(path: Path, reading: Reading = PLAIN) -> tuple[Array, Header]:
    """Return the pixels, as decode does, and the header of the file."""
    with _open(path, reading) as image:
        return _whole(path, image), image.header


def read_header(path: Path, reading: Reading = PLAIN) -> Header:
    """Return the header of a file's image, as decode_with_header does."""
    with _open(path, reading) as image:
        return image.header


def open_window(path: Path, reading: Reading = PLAIN) -> Window:
    """Return a function that reads windows of what decode would return.

    OME-Zarr, npy and plain NIfTI are read on demand; a compressed TIFF is decoded once, into a
    temporary file; the others are decoded whole.
    """
    with _open(path, reading) as image:
        header, read = image.header, image.window() if image.window else window_of(_whole(path, image))

    def window(places: Places) -> Array:
        with _readable(path):
            sides = tuple(len(range(side)[span]) for side, span in zip(header.space, places, strict=True))
            return _checked(path, read(places), header, sides)

    return window


def times_of(path: Path, reading: Reading = PLAIN) -> int | None:
    """Return the number of time points of a file; None without an axis of time, or if `path` names one.

    It is None, too, where the header cannot be read: whoever reads the file gets that error.
    """
    file, time = at_time(path)
    kind = format_of(file)
    if time is not None or kind is None or kind.times is None:
        return None
    try:
        return kind.times(file, reading)
    except Exception:  # of any type, as readers raise them
        return None


def name_and_suffix(path: Path) -> tuple[str, str]:
    """Return ("NAME", ".ome.tif") for NAME.ome.tif, ("NAME_t003", ".tif") for one time, NAME.tif#t=3."""
    file, time = at_time(path)
    suffix = suffix_of(file)
    stem = file.name[: len(file.name) - len(suffix)]
    return stem if time is None else f"{stem}_t{time:03d}", suffix


def is_image(path: Path) -> bool:
    """Return whether the path could be read as an image: an image file, or a folder that is one image."""
    kind = format_of(path)
    return kind is not None and (os.path.isdir(path) if kind.is_folder else os.path.isfile(path))


@contextmanager
def _open(path: Path, reading: Reading) -> Iterator[ImageHandle]:
    file, time = at_time(path)
    if not (os.path.isfile(file) or os.path.isdir(file)):
        raise MissingFileError(f"{path} does not exist")
    kind = format_of(file)
    if kind is None:
        raise ImageError(
            f"{file} has the suffix {file.suffix!r}; names of images must end with "
            f"{', '.join(image_suffixes())}"
        )
    if time is not None and kind.times is None:
        raise ImageError(f"{path}: files of this type have no time points: leave out #t={time}")
    with _readable(path), kind.open(file, reading, time) as image:
        if image.header.values == 0:
            raise ImageError(f"{path} has shape {image.header.shape} (C, *space), so it has no pixels")
        if image.window is None:
            _check_memory(path, image.header)
        yield image


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise errors of the readers of formats as ImageError."""
    try:
        yield
    except ConformaskError:
        raise
    except Exception as error:
        failure = failure_of_system(error)
        if failure is not None:
            raise ImageError(f"{path} cannot be read, {failure}") from error
        raise ImageError(
            f"{path} cannot be read as an image ({error}): it may be truncated; write it again"
        ) from error


def _check_memory(path: Path, header: Header) -> None:
    check_memory(f"{path}, {header.shape} (C, *space) in float32,", FLOAT32 * header.values)


def _whole(path: Path, image: ImageHandle) -> Array:
    _check_memory(path, image.header)
    return _checked(path, image.decode(), image.header, image.header.space)


def _checked(path: Path, array: Array, header: Header, space: tuple[int, ...]) -> Array:
    """Return the pixels if their shape is as the header says; else raise ImageError."""
    whole = array[..., None] if array.ndim == len(space) else array
    if whole.shape != (*space, header.channels):
        raise ImageError(
            f"{path} has shape {array.shape}, but its header states {header.shape} (C, *space); write "
            "it again"
        )
    return array


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
    highest = -math.inf if reading.highest_without_truth is None else reading.highest_without_truth
    return sum(
        int((((block < low) | (block > high)) & (block > highest)).sum()) for block in _blocks(array, 0)
    )


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
    kind, companions = format_of(file), []
    if kind is not None and kind.companions is not None:
        with _readable(file):
            companions = kind.companions(file)
    hashes = [path_hash(part) for part in (file, *companions)]
    digest = hashes[0] if len(hashes) == 1 else hash_of(hashes)
    return digest if time is None else f"{digest}-{time}"


@np.errstate(over="ignore", invalid="ignore")  # what overflows lies outside the range
def to_unit(array: Array, header: Header, reading: Reading, name: str) -> Image:
    """Map (low, high), else the range of the header, to [0, 1]: (*space[, C]) to float32 (C, *space).

    It works block by block, so that only the result is in memory besides the array. NaN stays if reading.nan
    is set, and stands where y has no truth.
    """
    low, high = _ends(array, header, reading, name)
    pixels = array[..., None] if array.ndim == len(header.space) else array
    unit = np.empty((pixels.shape[-1], *pixels.shape[:-1]), np.float32)
    lowest, highest = math.inf, -math.inf
    for part, block in zip(_blocks(unit, 1), _blocks(pixels, 0), strict=True):
        values = _finite(block, name, reading)
        lowest = min(lowest, float(np.fmin.reduce(values, axis=None)))
        highest = max(highest, float(np.fmax.reduce(values, axis=None)))
        values -= low  # in place: it is a copy
        values /= high - low
        inside = values.clip(0, 1, out=values)
        part[...] = np.moveaxis(1 - inside if reading.inverted else inside, -1, 0)
    if reading.clip != "all":
        _check_inside(lowest, highest, (low, high), name, reading)
    return unit


def _blocks(image: Array, first: int) -> list[Array]:
    """Return views of about BLOCK values, along the longest side; `first` is the first spatial axis."""
    last = image.ndim - 1 + first
    axis = max(range(first, last), key=lambda place: image.shape[place])
    parts = min(image.shape[axis], 1 + image.size // BLOCK)
    return [image] if parts == 1 else np.array_split(image, parts, axis)


def _finite(block: Array, name: str, reading: Reading) -> Array:
    """Return the block as float64, NaN where y has no truth; raise ImageError for infinity, and other NaN."""
    values: Array = block.astype(np.float64)
    if (highest := reading.highest_without_truth) is not None:
        values[values <= highest] = np.nan
    elif reading.nan is None and np.isnan(values).any():
        raise ImageError(
            f"{name} contains NaN: replace it before use, or declare it to be outside the region that the "
            "promise is about, nan='outside' (--nan outside)"
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
    of_x = ", of x alone x_range=(low, high) or --x-range LOW HIGH" if reading.role == "x" else ""
    return f"data_range=(low, high) or --data-range LOW HIGH{of_x}"


def _checked_range(data_range: DataRange) -> DataRange:
    try:
        low, high = map(float, data_range)
    except (OverflowError, TypeError, ValueError):
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
    """Return the images of a folder, sorted, without hidden ones and files in a folder that is one image."""
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder")
    paths = folder.rglob("*") if recursive else folder.iterdir()
    candidates = {
        path
        for path in paths
        if is_image(path) and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
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


def by_stem(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by their names without suffix, sorted."""
    files: dict[str, Path] = {}
    for path in list_images(folder):
        stem, _ = name_and_suffix(path)
        if stem in files:
            raise ImageError(f"{path} and {files[stem].name} have the same stem; keep one of them")
        files[stem] = path
    return files


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


def image_ids(images: Iterable[Image]) -> Array:
    """Return the hash of each image; "" for constant ones, which are all alike."""
    return np.array([hash_unless_constant(image) or "" for image in images], dtype=np.str_)


def is_constant(image: Image) -> bool:
    """Return whether every channel has one value only (an empty field, a black tile)."""
    first = image.reshape(len(image), -1)[:, :1]
    return bool((image.reshape(len(image), -1) == first).all())


BLOCK_SIDE = 1024
"""Side of a block of a plane, in pixels."""
DEEP = 128
"""Side of a block of a volume, in voxels."""
OF_VOLUMES = ".ome.tif"
"""Suffix of masks of volumes, where the image's own type cannot hold them."""


def mask_suffix(suffix: str, volume: bool = False) -> str:
    """Return the suffix of masks of images with this suffix, such as .ome.tif; "" is a folder without one."""
    kind = (format_of(Path(f"mask{suffix}")) if suffix else FORMATS.get(FOLDER)) or PNG
    own_suffix = kind.mask_suffix or suffix
    writer = format_of(Path(f"mask{own_suffix}"))
    return OF_VOLUMES if volume and not (writer and writer.volumes) else own_suffix


def side_of_block(size: Size) -> int:
    """Return the side of the blocks of an image of this size."""
    return BLOCK_SIDE if len(size) == 2 else DEEP


def grid(size: Size, block: int | None = None) -> Iterator[Places]:
    """Return the places of the blocks, row by row, plane by plane; their side defaults to that in files."""
    return blocks_of(size, (block or side_of_block(size),) * len(size))


def write_blocks(path: Path, shape: Shape, blocks: Blocks, under: SourceImage) -> None:
    """Write a mask (C, *space), or (C, T, *space) of a time series, from its blocks, wholly or not at all."""
    source, suffix = under.file_and_time[0], known_suffix(path)
    is_alike = source is not None and known_suffix(source) == suffix
    kind = format_of(source) if source is not None and is_alike else FORMATS.get(suffix)
    if kind is None or kind.write_blocks is None:
        writers = {suffix: kind for suffix, kind in FORMATS.usable().items() if kind.write_blocks}
        kind = chosen(writers, suffix, "suffix")
    assert kind.write_blocks is not None
    if shape[0] not in (1, 3) and not kind.any_channels:
        raise ImageError(
            f"{path} cannot store a mask with {shape[0]} channels, only with 1 or 3; OME-Zarr can"
        )
    space = shape[2 if under.is_film else 1 :]
    if len(space) > 2 and not kind.volumes:
        raise ImageError(f"{path} cannot store the mask of a volume; OME-TIFF, OME-Zarr and NIfTI can")
    with atomic_write(path) as aside:
        kind.write_blocks(aside, shape, blocks, side_of_block(space), under)


MOST_SAMPLED = 2**20
"""Number of pixels from which on the range of an image is that of a grid of them."""
NARROWEST = 1e-6
"""The width of the range of a constant image, as a share of its value or of 1."""
LARGEST_SLAB = 2**27
"""Most values in a slab of full width that stays in memory for the tiles beside each other."""


@dataclass(frozen=True)
class Raster:
    """An image of which only the windows in use are in memory."""

    name: str
    """Name of the file or array, for messages."""
    header: Header
    reading: Reading
    window: Window

    @property
    def size(self) -> Size:
        """Size of the image, (H, W) or (D, H, W)."""
        return self.header.space

    def read(self, places: Places) -> Image:
        """Read a window as float32 (C, *space) in [0, 1], by the rules of read_image."""
        spans = zip(("planes", "rows", "columns")[-len(places) :], places, strict=True)
        name = f"{self.name} ({', '.join(f'{axis} {span.start} to {span.stop}' for axis, span in spans)})"
        window = self.window(places)
        check_memory(name, FLOAT32 * window.size)
        return to_unit(window, self.header, self.reading, name)

    def own_range(self) -> DataRange:
        """Return the PERCENTILES of the image: of a regular grid of about MOST_SAMPLED pixels, all channels.

        Where they are equal, those of its least and largest value; a constant image gets the narrowest range.
        """
        step = math.ceil((math.prod(self.size) / MOST_SAMPLED) ** (1 / len(self.size)))
        samples = [
            self.window(places)[tuple(slice(-side.start % step, None, step) for side in places)].reshape(-1)
            for places in grid(self.size)
        ]
        values = np.concatenate(samples).astype(np.float64)
        values = values[np.isfinite(values)]
        if not values.size:
            raise ImageError(f"{self.name} has no finite value: it has no range of its own")
        low, high = np.percentile(values, PERCENTILES)
        if low == high:
            low, high = values.min(), values.max()
        return float(low), float(max(high, low + NARROWEST * max(1.0, abs(low))))

    def values(self, places: Places) -> Image:
        """Read a window as float32 (C, *space) with the values that the file holds."""
        return np.ascontiguousarray(channels_first(self.window(places), len(places)), np.float32)

    def clipped(self, windows: Iterable[Places]) -> float:
        """Return the share of the values in these windows, read once more, that are clipped."""
        if self.reading.clip is None:
            return 0.0
        outside = values = 0
        for places in windows:
            window = self.window(places)
            outside += count_clipped(window, self.header, self.reading, self.name)
            values += window.size
        return outside / values


def in_own_range(reading: Reading, x: Raster, y_hat: Raster) -> tuple[Raster, Raster]:
    """Return the images of a triplet with their range, where each has its own: one of them is read."""
    role = reading.source_of_range
    if role is None:
        return x, y_hat
    own = (x if role == "x" else y_hat).own_range()
    outputs = replace(y_hat, reading=y_hat.reading.settled(own))
    return (replace(x, reading=x.reading.settled(own)) if role == "x" else x), outputs


def open_raster(image: UnreadImage, reading: Reading = PLAIN, name: str = "the array") -> Raster:
    """Open an image file of any type, or an array that messages call `name`, without decoding it yet."""
    if not isinstance(image, Path):
        array, header = image_of_array(np.asarray(image), name, reading.axes)
        return Raster(name, header, reading, window_of(array))
    header, windows = read_header(image, reading), lru_cache(maxsize=1)(open_window)

    # tiles come row by row: those beside each other are cut from one slab, which is decoded once
    @lru_cache(maxsize=1)
    def slab(start: int, stop: int) -> Array:
        return windows(image, reading)((slice(start, stop), *header.everywhere[1:]))

    def window(places: Places) -> Array:
        first, *others = places
        if (first.stop - first.start) * header.values // header.space[0] > LARGEST_SLAB:
            return windows(image, reading)(places)
        return slab(first.start, first.stop)[:, *others]

    return Raster(str(image), header, reading, window)
