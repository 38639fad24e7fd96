"""Layers beside the three images: cues, labels of objects, and the region that a promise is about."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import scipy
from jaxtyping import Float

from conformask.errors import ImageError
from conformask.images.formats import Header, Places, arranged, channels_first, image_of_array
from conformask.images.read import Image, UnreadImage, decode_with_header, open_raster
from conformask.records.geometry import Geometry, Size, size_text
from conformask.records.reading import PLAIN, Reading
from conformask.records.record import Array


def read_cues(image: UnreadImage, reading: Reading, name: str) -> Image:
    """Read maps as float32 (K, *space), with the values of the file or array; `name` is for errors."""
    if isinstance(image, Path):
        name, (array, header) = str(image), decode_with_header(image, reading.of("cues"))
    else:
        array, header = image_of_array(np.asarray(image), name, reading.axes)
    cues: Image = channels_first(array, len(header.space)).astype(np.float32)
    if not np.isfinite(cues).all():
        raise ImageError(
            f"{name} holds NaN, or values that are infinite in float32: give a finite value at every pixel"
        )
    return cues


def cues_at(size: Size, cues: Image, name: str) -> Image:
    """Return maps at the size of y_hat; those of a whole fraction of it are repeated."""
    check_size(size, cues.shape[1:], name)
    for axis, (side, part) in enumerate(zip(size, cues.shape[1:], strict=True), start=1):
        cues = cues if side == part else cues.repeat(side // part, axis=axis)
    return np.ascontiguousarray(cues)


def check_size(size: Size, space: Size, name: str) -> None:
    """Raise for maps with sides `space` beside a y_hat of this size."""
    if len(space) != len(size) or any(side % part for side, part in zip(size, space, strict=True)):
        raise ImageError(
            f"{name} has {size_text(space)} pixels, but y_hat has {size_text(size)}: give maps of its size, "
            "or of a whole fraction of it"
        )


Region = Float[np.ndarray, "_ ..."]
"""Region (1, *space), float32 in [0, 1]."""
RegionWindow = Callable[[Places], Region]
"""Function that reads a window of a region."""


def read_region(
    path: Path, size: tuple[int, ...], reading: Reading = PLAIN, geometry: Geometry | None = None
) -> Region:
    """Read a region of an image of this size; see `region_of_array`."""
    array, header = decode_with_header(path, reading.of("region"))
    check_place(path, header, size, geometry)
    return region_of_array(array, size, str(path))


def region_window(
    path: Path, size: tuple[int, ...], reading: Reading = PLAIN, geometry: Geometry | None = None
) -> RegionWindow:
    """Open a region, read window by window; it does not check that the whole region is not empty."""
    raster = open_raster(path, reading.of("region"))
    check_place(path, raster.header, size, geometry)
    if raster.header.shape != (1, *size):
        raise _of_another_shape(str(path), raster.header.shape, size)

    def read(places: Places) -> Region:
        window = raster.window(places)
        return _weights(window.reshape(1, *window.shape[: len(size)]), str(path))

    return read


def check_place(path: Path, header: Header, size: tuple[int, ...], geometry: Geometry | None) -> None:
    """Raise if an image of this size and geometry lies elsewhere than the file with this header."""
    if geometry is not None and header.geometry is not None and header.space == size:
        difference = header.geometry.differs(geometry)
        if difference:
            raise ImageError(f"{path} and y_hat have {difference}; they must have the same position")


def region_of_array(array: Array, size: tuple[int, ...], name: str, axes: str | None = None) -> Region:
    """Convert a mask or label image (*space) or (*space, 1), or of these axes, to a region.

    Whole numbers, also as floats, are inside unless they are 0; other floats in [0, 1] weight their pixels.
    """
    array = np.asarray(array)
    if axes is not None and array.ndim == len(axes):
        array = arranged(array, axes, name)
    if array.shape not in (size, (*size, 1)):
        raise _of_another_shape(name, array.shape, size)
    region = _weights(array.reshape(1, *size), name)
    check_not_empty(region, name)
    return region


def check_not_empty(region: Region, name: str) -> None:
    """Raise if a region has no pixel."""
    if not region.any():
        raise ImageError(f"{name} is empty, so nothing can be promised: leave the image out")


def _of_another_shape(name: str, shape: tuple[int, ...], size: tuple[int, ...]) -> ImageError:
    return ImageError(f"{name} has shape {shape}, but its image has {size}: give one value per pixel")


def _weights(array: Array, name: str) -> Array:
    # NIfTI often holds labels as floats: whole numbers from 0 on
    if array.dtype.kind != "f" or ((array >= 0) & (array == np.floor(array))).all():
        return np.asarray(array != 0, np.float32)
    region: Array = array.astype(np.float32)
    if not ((region >= 0) & (region <= 1)).all():
        raise ImageError(f"{name} has values outside [0, 1], or NaN: use 1 for inside and 0 for outside")
    return region


def without_nan(
    name: str, x: Array, y_hat: Array, y: Array | None, region: Region | None
) -> tuple[Array, Array, Array | None, Region]:
    """Replace NaN by 0 in a triplet's images, and remove from the region the pixels that were NaN in one.

    NaN in x counts only where x has the size of y_hat.
    """
    images = [image for image in (x, y_hat, y) if image is not None and image.shape[1:] == y_hat.shape[1:]]
    inside = not_nan(images, region)
    if not inside.any():
        raise ImageError(f"triplet {name!r} is NaN everywhere, so nothing can be promised: leave it out")
    x, y_hat = np.nan_to_num(x), np.nan_to_num(y_hat)
    return x, y_hat, None if y is None else np.nan_to_num(y), inside


def not_nan(images: Iterable[Array], region: Region | None) -> Region:
    """Return the region, or 1 if None, without the pixels where an image (C, *space) holds NaN."""
    inside = np.float32(1) if region is None else region
    for image in images:
        inside = inside * ~np.isnan(image).any(axis=0, keepdims=True)
    return np.asarray(inside, np.float32)


LARGEST = 2**16 - 1
"""The largest label: masks and labels are written with 16 bits."""


def read_labels(
    image: UnreadImage, size: Size, reading: Reading, name: str, geometry: Geometry | None = None
) -> Image:
    """Read labels (*space) or (*space, 1) of an image of this size, as float32 (1, *space)."""
    if isinstance(image, Path):
        name, (array, header) = str(image), decode_with_header(image, reading.of("labels"))
        refuse_lossy(header, name)
        check_place(image, header, size, geometry)
    else:
        array = np.asarray(image)
        if reading.axes is not None and array.ndim == len(reading.axes):
            array = arranged(array, reading.axes, name)
    if array.shape not in (size, (*size, 1)):
        raise ImageError(
            f"{name} has shape {array.shape}, but its image has {size}: give one label per pixel"
        )
    check_labels(array, name)
    return array.reshape(1, *size).astype(np.float32)


def refuse_lossy(header: Header, name: str) -> None:
    """Raise for labels in a file whose values are not those that were saved."""
    if header.is_lossy:
        raise ImageError(f"{name} is compressed as JPEG, which changes labels: save them as PNG or TIFF")


def check_labels(array: Array, name: str) -> None:
    """Raise for labels that are not whole numbers."""
    if not ((array >= 0) & (array <= LARGEST) & (array == np.floor(array))).all():
        raise ImageError(
            f"{name} holds labels that are not whole numbers from 0 to {LARGEST}: give 0 to the background "
            "and a number to each object, such as by skimage.segmentation.relabel_sequential"
        )


def components(image: Image, threshold: float, name: str) -> Image:
    """Label the parts of an image (C, *space) above a threshold that hang together, float32 (1, *space).

    Channels are averaged; pixels hang together by a side, not by a corner.
    """
    labels, count = scipy.ndimage.label(image.mean(axis=0) > threshold)
    if count > LARGEST:
        raise ImageError(
            f"{name} has {count} parts above {threshold:g}, more than {LARGEST}: segment it by other means, "
            "and give labels"
        )
    return np.asarray(labels[None], np.float32)
