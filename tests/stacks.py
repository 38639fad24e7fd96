"""Stacks with axes in any order, and masks of them."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from conformask.images.formats import SourceImage
from conformask.images.read import decode, grid, open_window, read_header, write_blocks
from conformask.records.geometry import Geometry
from conformask.records.reading import PLAIN

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
