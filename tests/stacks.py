"""Stacks with axes in any order and masks of them; TIFF files written by hand, tag by tag."""

import struct
from pathlib import Path

import numpy as np
import pytest
import zarr

from conformask.images.formats import SourceImage
from conformask.images.read import decode, grid, open_window, read_header, write_blocks
from conformask.records.reading import PLAIN, Geometry

SHARED = Path(__file__).parents[2] / "shared" / "data"
UM = "\u00b5m"
SIDES = {"T": 3, "Z": 4, "C": 2, "Y": 20, "X": 23}


def shared(name):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"no {path}: see ../shared/data/README.txt")
    return path


def numbers(axes, dtype="uint16", **sides):
    """Every value once, so that no axis can stand for another."""
    shape = [(SIDES | sides)[axis] for axis in axes]
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def image_of(array, axes, time=0):
    """(*space) or (*space, C), by hand."""
    if "T" in axes:
        array, axes = array.take(time, axis=axes.index("T")), axes.replace("T", "")
    return np.einsum(f"{axes}->{''.join(axis for axis in 'ZYXC' if axis in axes)}", array)


def check_windows(path, expected, reading=PLAIN):
    """The whole, and windows that begin and end anywhere."""
    np.testing.assert_array_equal(decode(path, reading), expected)
    window, space = open_window(path, reading), read_header(path, reading).space
    parts = tuple(slice(side // 3, side - side // 4) for side in space)
    for places in (parts, *((part, *map(slice, [0] * len(space), space)) for part in parts[:1])):
        places = places[: len(space)]
        np.testing.assert_array_equal(window(places), expected[places])


GEOMETRY = Geometry((0.4994126016284111, 0.1 + 0.2, 1 / 3), UM)


def mask(*shape):
    """A mask (C, *space) with ones and zeros in it."""
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    values[values > 0.8] = 1
    values[values < 0.1] = 0
    return values


def written(path, values, geometry=None, name=None):
    def blocks():
        return ((places, values[:, *places]) for places in grid(values.shape[1:]))

    source = None if name is None else path.parent / name
    write_blocks(path, values.shape, blocks(), SourceImage(source, geometry, PLAIN))
    return path


def check_values(stored, values):
    """Whole numbers of 16 bits, never above, less than a step below."""
    assert stored.dtype == np.uint16
    back = (stored / 65535).astype(np.float32)
    assert (back <= values).all()
    assert (values - back).max() <= 1.001 / 65535
    assert (stored[values == 1] == 65535).all()
    assert (values == 1).any()


def check_level(smaller, larger, factors):
    """Means of the pixels that are there, rounded down; by hand."""
    assert smaller.shape == tuple(-(-side // by) for side, by in zip(larger.shape, factors, strict=True))
    sums, counts = np.zeros(smaller.shape, np.int64), np.zeros(smaller.shape, np.int64)
    for offset in np.ndindex(*factors):
        part = larger[tuple(slice(at, None, by) for at, by in zip(offset, factors, strict=True))]
        inside = tuple(slice(0, side) for side in part.shape)
        sums[inside] += part
        counts[inside] += 1
    np.testing.assert_array_equal(smaller, sums // counts)


def values_of(stored, shape):
    return np.moveaxis(stored.reshape(*shape[1:], shape[0]), -1, 0)


def levels_of(path):
    group = zarr.open_group(path, mode="r")
    image = group.attrs["ome"]["multiscales"][0]
    return image, [group[data["path"]][:] for data in image["datasets"]]


SHORT, LONG = 3, 4


def packed(values, bits):
    """Each row as bits, the highest first, filled up to whole bytes."""
    rows = []
    for row in values.reshape(len(values), -1):
        text = "".join(f"{value:0{bits}b}" for value in row)
        rows.append(int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big"))
    return b"".join(rows)


def tiff(path, size, segments, bits=8, **tags):
    """A little-endian TIFF of one grey image (H, W): strips, or tiles where their size is among the tags.

    A tag given by name, a number or a list, replaces what would be written.
    """
    height, width = size
    starts = np.cumsum([8, *map(len, segments)])[:-1].tolist()
    tiled = "TILE_WIDTH" in tags
    values = {
        "WIDTH": width,
        "HEIGHT": height,
        "BITS": bits,
        "COMPRESSION": 1,
        "PHOTOMETRIC": 1,
        "OFFSETS": starts,
        "SAMPLES": 1,
        "COUNTS": list(map(len, segments)),
        **({} if tiled else {"ROWS": -(-height // len(segments))}),
        **tags,
    }
    codes = CODES | ({"OFFSETS": 324, "COUNTS": 325} if tiled else {})
    entries = sorted((codes[name], np.atleast_1d(value).tolist()) for name, value in values.items())
    at = 8 + sum(map(len, segments))
    after = at + 2 + 12 * len(entries) + 4
    ifd, arrays = struct.pack("<H", len(entries)), b""
    for code, numbers in entries:
        kind, letter = (SHORT, "H") if code == CODES["PALETTE"] else (LONG, "I")
        content = struct.pack(f"<{len(numbers)}{letter}", *numbers)
        if len(content) > 4:
            content, arrays = struct.pack("<I", after + len(arrays)), arrays + content
        ifd += struct.pack("<HHI", code, kind, len(numbers)) + content
    path.write_bytes(struct.pack("<2sHI", b"II", 42, at) + b"".join(segments) + ifd + bytes(4) + arrays)
    return path


CODES = {
    "WIDTH": 256,
    "HEIGHT": 257,
    "BITS": 258,
    "COMPRESSION": 259,
    "PHOTOMETRIC": 262,
    "OFFSETS": 273,
    "SAMPLES": 277,
    "ROWS": 278,
    "COUNTS": 279,
    "PLANES": 284,
    "PALETTE": 320,
    "TILE_WIDTH": 322,
    "TILE_HEIGHT": 323,
    "SAMPLE_FORMAT": 339,
}
