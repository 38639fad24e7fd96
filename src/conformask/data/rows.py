"""One row of a collection of triplets: functions that read its images, headers and regions, or hash it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from conformask.data.datasets import Item
from conformask.data.decoding import at_time, companions_of, read_header
from conformask.data.formats.header import Header, header_of
from conformask.data.images import Image, from_user_array, with_header
from conformask.data.manifest import ManifestRow
from conformask.data.rasters import Raster, open_raster
from conformask.data.regions import (
    Region,
    RegionWindow,
    not_nan,
    read_region,
    region_of_array,
    region_window,
    without_nan,
)
from conformask.errors import ImageError
from conformask.records.geometry import Geometry
from conformask.records.reading import Reading
from conformask.records.size import Size
from conformask.storage.as_arrays import hash_of_arrays
from conformask.storage.as_json import hash_of
from conformask.storage.sealed import path_hash
from conformask.types import Array, Triplet

Role = Literal["x", "y_hat", "y"]


def read_row(row: ManifestRow, reading: Reading) -> Triplet:
    """Read the triplet of a row.

    Raises:
        ImageError: an image cannot be read, y and y_hat have different shapes or lie in different places,
            or a region is empty.
    """
    (x, of_x), (y_hat, of_y_hat) = _read(row, reading, "x"), _read(row, reading, "y_hat")
    y, of_y = (None, None) if row.y is None else _read(row, reading, "y")
    geometry, patient = (None, None) if of_y_hat is None else (of_y_hat.geometry, of_y_hat.patient)
    if y is not None and y.shape != y_hat.shape:
        raise ImageError(
            f"triplet {row.name!r}: y has shape {y.shape}, but y_hat has {y_hat.shape} (C, *space); they "
            "must be the same"
        )
    if x.ndim != y_hat.ndim:
        raise ImageError(
            f"triplet {row.name!r}: x has shape {x.shape}, but y_hat has {y_hat.shape} (C, *space); one is "
            "a volume, the other is not"
        )
    _check_places(row.name, {"x": of_x, "y": of_y}, of_y_hat)
    region = None if row.region is None else _region(row, reading, y_hat.shape[1:], geometry)
    if reading.nan is not None:
        x, y_hat, y, region = without_nan(row.name, x, y_hat, y, region)
    return Triplet(row.name, x, y_hat, y, row.group, row.category, row.weight, region, geometry, patient)


def header_of_row(row: ManifestRow, role: Role, reading: Reading) -> Header:
    """Return the header of an image, which is not decoded.

    Raises:
        ImageError: it cannot be read.
    """
    image: Path | Array | Item = getattr(row, role)
    if isinstance(image, Path):
        return read_header(image, reading)
    return header_of(np.asarray(image), _name(row, role), reading.axes)


def raster_of_row(row: ManifestRow, role: Role, reading: Reading) -> Raster:
    """Open an image to be read window by window; only its header is read now.

    Raises:
        ImageError: the header cannot be read, or chunks of a zarr are missing.
    """
    return open_raster(getattr(row, role), reading.of(role), _name(row, role))


def region_of_row(row: ManifestRow, reading: Reading) -> RegionWindow | None:
    """Open the region that read_row would return, to be read window by window; None where there is none.

    Raises:
        ImageError: a header cannot be read, or is not that of a region of this image.
    """
    y_hat = raster_of_row(row, "y_hat", reading)
    given = None if row.region is None else _region_window(row, reading, y_hat.header)
    if reading.nan is None:
        return given
    x = raster_of_row(row, "x", reading)
    y = [] if row.y is None else [raster_of_row(row, "y", reading)]
    images = [image for image in (x, y_hat, *y) if image.size == y_hat.size]
    return lambda places: not_nan(
        (image.read(places) for image in images), None if given is None else given(places)
    )


def source_of_row(row: ManifestRow, reading: Reading) -> str:
    """Return a hash of the files or arrays of a triplet and of how they are read.

    Raises:
        OSError: a file cannot be read.
    """
    facts = [*reading.facts, row.category, row.weight]
    images = (row.x, row.y_hat, row.y, *([] if row.region is None else [row.region]))
    return hash_of([*facts, *map(_hash_of, images)])[:16]


def _name(row: ManifestRow, role: str) -> str:
    return f"{role} of triplet {row.name!r}"


def _region(row: ManifestRow, reading: Reading, size: Size, geometry: Geometry | None) -> Region:
    if isinstance(row.region, Path):
        return read_region(row.region, size, reading, geometry)
    return region_of_array(np.asarray(row.region), size, _name(row, "region"), reading.axes)


def _region_window(row: ManifestRow, reading: Reading, y_hat: Header) -> RegionWindow:
    if isinstance(row.region, Path):
        return region_window(row.region, y_hat.space, reading, y_hat.geometry)
    region = _region(row, reading, y_hat.space, y_hat.geometry)
    return lambda places: region[:, *places]


def _read(row: ManifestRow, reading: Reading, role: Role) -> tuple[Image, Header | None]:
    image: Path | Array | Item = getattr(row, role)
    reading = reading.of(role)
    if isinstance(image, Path):
        return with_header(image, reading)
    return from_user_array(np.asarray(image), reading, _name(row, role)), None


def _check_places(name: str, others: Mapping[str, Header | None], y_hat: Header | None) -> None:
    """Raise for images of one size that lie in different places."""
    for role, other in others.items():
        if other is None or y_hat is None or other.space != y_hat.space:
            continue
        difference = None
        if other.geometry is not None and y_hat.geometry is not None:
            difference = other.geometry.differs(y_hat.geometry)
        if difference:
            raise ImageError(
                f"triplet {name!r}: {role} and y_hat have {difference}; they must have the same position: "
                "write y_hat with the header of its input"
            )


def _hash_of(image: Path | Array | Item | None) -> str | None:
    if image is None:
        return None
    if isinstance(image, Path):
        file, time = at_time(image)
        hashes = [path_hash(each) for each in (file, *companions_of(file))]
        digest = hashes[0] if len(hashes) == 1 else hash_of(hashes)
        return digest if time is None else f"{digest}-{time}"
    return hash_of_arrays({"image": np.asarray(image)})
