"""Label images: the objects of an image as whole numbers from 1 on, 0 for the background."""

from pathlib import Path

import numpy as np
import scipy

from conformask.data.datasets import UnreadImage
from conformask.data.decoding import decode_with_header
from conformask.data.formats.header import Header, arranged
from conformask.data.images import Image
from conformask.data.regions import check_place
from conformask.errors import ImageError
from conformask.records.geometry import Geometry
from conformask.records.reading import Reading
from conformask.records.size import Size
from conformask.storage.as_arrays import Array

LARGEST = 2**16 - 1
"""The largest label: masks and labels are written with 16 bits."""


def read_labels(
    image: UnreadImage, size: Size, reading: Reading, name: str, geometry: Geometry | None = None
) -> Image:
    """Read labels (*space) or (*space, 1) of an image of this size, as float32 (1, *space).

    Raises:
        MissingFileError: there is no such file.
        ImageError: it cannot be decoded, is compressed as JPEG, has another size or place, or holds anything
            but whole numbers from 0 to 65535; names an array `name`.
    """
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
    """Raise for labels in a file whose values are not those that were saved.

    Raises:
        ImageError: it is compressed as JPEG; names `name`.
    """
    if header.is_lossy:
        raise ImageError(f"{name} is compressed as JPEG, which changes labels: save them as PNG or TIFF")


def check_labels(array: Array, name: str) -> None:
    """Raise for labels that are not whole numbers.

    Raises:
        ImageError: they are none, or beyond 65535; names `name`.
    """
    if not ((array >= 0) & (array <= LARGEST) & (array == np.floor(array))).all():
        raise ImageError(
            f"{name} holds labels that are not whole numbers from 0 to {LARGEST}: give 0 to the background "
            "and a number to each object, such as by skimage.segmentation.relabel_sequential"
        )


def components(image: Image, threshold: float, name: str) -> Image:
    """Label the parts of an image (C, *space) above a threshold that hang together, float32 (1, *space).

    Channels are averaged; pixels hang together by a side, not by a corner.

    Raises:
        ImageError: there are more than 65535 of them; names `name`.
    """
    labels, count = scipy.ndimage.label(image.mean(axis=0) > threshold)
    if count > LARGEST:
        raise ImageError(
            f"{name} has {count} parts above {threshold:g}, more than {LARGEST}: segment it by other means, "
            "and give labels"
        )
    return np.asarray(labels[None], np.float32)
