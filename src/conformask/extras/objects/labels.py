"""The layers of objects: labels of those of y_hat and y, or the parts of these images above a threshold."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy

from conformask.arrays import Array, Triplet
from conformask.errors import ImageError, MissingFileError
from conformask.images.formats import Header, arranged
from conformask.images.layers import SHOWN, FilesBesideMasks, LayerKind, check_place, with_layer
from conformask.images.read import Image, UnreadImage, by_stem, decode_with_header
from conformask.records.reading import Geometry, Reading, Size

if TYPE_CHECKING:
    from conformask.images.rows import TripletRow


@dataclass(frozen=True)
class Labels(LayerKind):
    """Labels of the objects of y_hat or y, (1, *space), 0 for the background; or parts above a threshold.

    Args:
        name: labels or y_labels.
        role: the image whose objects they are, y_hat or y.
    """

    found_by_stem = False
    beside_manifest = True
    trained_with = False  # a score is trained for the errors of pixels
    said = "objects"

    def place(self, reading: Reading) -> str | None:
        """Return the folder of labels that the reading names, and in it that of the image; None without."""
        if reading.objects is None or reading.components_above is not None:
            return None
        return f"{reading.objects}/{self.role}"

    def attach(self, rows: "list[TripletRow]", beside: Path, reading: Reading) -> "list[TripletRow]":
        """Return the rows with labels of each image; those of y may be missing."""
        place = self.place(reading)
        if place is None or all(self.name in row.layers for row in rows):
            return rows
        if self.role == "y" and not (beside / place).is_dir():
            return rows
        if not (beside / place).is_dir():
            raise MissingFileError(
                f"{beside / place} is not a folder: give labels of the objects of each y_hat, in a file of "
                f"its name (and in {(beside / place).with_name('y')} those of y), or components:0.5 for "
                "--objects"
            )
        files = by_stem(beside / place)
        missing = [row.name for row in rows if row.name not in files]
        if missing:
            raise MissingFileError(
                f"{beside / place} has no labels of {', '.join(missing[:SHOWN])}: add them"
            )
        return [replace(row, layers={**row.layers, self.name: files[row.name]}) for row in rows]

    def is_known(self, row: "TripletRow", reading: Reading) -> bool:
        """Return whether the objects of the image are known."""
        has_image = row.image(self.role) is not None
        return has_image and (self.name in row.layers or reading.components_above is not None)

    def add(self, row: "TripletRow", triplet: Triplet, reading: Reading) -> Triplet:
        """Return the triplet with the labels."""
        image = triplet.y_hat if self.role == "y_hat" else triplet.truth()
        if self.name in row.layers:
            name = f"labels of {row.text(self.role)}"
            labels = read_labels(row.layers[self.name], image.shape[1:], reading, name, triplet.geometry)
        else:
            assert reading.components_above is not None
            labels = components(image, reading.components_above, row.text(self.role))
        return with_layer(triplet, self.name, labels)

    def check(self, values: Array, name: str) -> None:
        """Raise for labels that are not whole numbers."""
        check_labels(values, name)

    def check_header(self, header: Header, name: str) -> None:
        """Raise for labels in a file whose values are not those that were saved."""
        if header.is_lossy:
            raise ImageError(f"{name} is compressed as JPEG, which changes labels: save them as PNG or TIFF")

    def files_beside(
        self, folder: Path, masks: Mapping[str, Path], dimensions: int
    ) -> FilesBesideMasks | None:
        """Return the files about the objects of y_hat."""
        from conformask.extras.objects.files import FilesOfObjects

        return FilesOfObjects.beside(folder, masks, dimensions) if self.role == "y_hat" else None


LARGEST = 2**16 - 1
"""The largest label: masks and labels are written with 16 bits."""


def read_labels(
    image: UnreadImage, size: Size, reading: Reading, name: str, geometry: Geometry | None = None
) -> Image:
    """Read labels (*space) or (*space, 1) of an image of this size, as float32 (1, *space)."""
    if isinstance(image, Path):
        name, (array, header) = str(image), decode_with_header(image, reading.of("labels"))
        LABELS.check_header(header, name)
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


LABELS = Labels("labels", "y_hat")
Y_LABELS = Labels("y_labels", "y")
