"""Labels of the objects of y_hat and y: layers, read or found above a threshold, and files beside masks."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from conformask.arrays import Array, Batch, Triplet
from conformask.errors import ImageError, MissingFileError
from conformask.extensions import required
from conformask.extras.objects.loss import labels_of
from conformask.images.formats import Header, SourceImage, arranged
from conformask.images.layers import SHOWN, FilesBesideMasks, LayerKind, check_place, with_layer
from conformask.images.read import OF_VOLUMES, Image, UnreadImage, by_stem, decode_with_header, write_blocks
from conformask.masker.folder import LABELS as LABEL_FOLDER, OBJECT_TABLE, OBJECTS
from conformask.records.reading import Geometry, Reading, Size
from conformask.records.record import Json, atomic_write, write_csv

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


COLORS = {"trusted": [0, 158, 115], "hidden": [213, 94, 0]}
"""Colours of the classes of objects, (red, green, blue)."""
RESCALED = ".dcm"
"""Suffix of masks whose values are rescaled on reading, so that labels are written as OME-TIFF."""


@dataclass(frozen=True)
class ObjectFiles:
    """The files about the objects of one image; objects.csv has the lines of all their tables."""

    labels: Path
    """labels/NAME, the labels of the trusted objects, in the type of the mask (for DICOM OME-TIFF)."""
    table: Path
    """objects/NAME.csv, a line for each object of y_hat. Pixels count from 0, at their centres; a box ends
    before its max; area or volume is empty where the file states no spacing."""
    outlines: Path | None
    """objects/NAME.geojson, for QuPath, in pixels from the corner of the first one; None for volumes."""

    @classmethod
    def of(cls, folder: Path, name: str, mask: Path, dimensions: int) -> "ObjectFiles":
        """Return the files of an image with this mask."""
        is_rescaled = mask.suffix == RESCALED
        labels = folder / LABEL_FOLDER / (f"{name}{OF_VOLUMES}" if is_rescaled else mask.name)
        table, outlines = (folder / OBJECTS / f"{name}{ending}" for ending in (".csv", ".geojson"))
        return cls(labels, table, outlines if dimensions == 2 else None)

    def write(
        self, name: str, group: str, labels: Array, score: Array, mask: Array, under: SourceImage
    ) -> None:
        """Write the files; labels, score and mask are (*space), with one value on each object."""
        labels = labels.astype(np.uint16)
        trusted = np.where(mask > 0, labels, 0).astype(np.uint16)
        whole = tuple(map(slice, labels.shape))
        write_blocks(
            self.labels, (1, *labels.shape), iter([(whole, trusted[None])]), replace(under, is_labels=True)
        )
        objects = measure().regionprops(labels)
        rows = [_row(name, group, each, score, mask, under.geometry) for each in objects]
        write_csv(self.table, rows, columns(labels.ndim))
        if self.outlines is not None:
            features = [_feature(each, row) for each, row in zip(objects, rows, strict=True)]
            collection = {"type": "FeatureCollection", "features": features}
            with atomic_write(self.outlines) as aside:
                aside.write_text(json.dumps(collection), encoding="utf-8")


def measure() -> Any:
    """Return what measures objects."""
    return required("skimage.measure", "a table of objects", "skimage")


def columns(dimensions: int) -> list[str]:
    """Return the columns of the table of objects in planes or volumes."""
    axes = "zyx"[-dimensions:]
    box = [f"{axis}_{end}" for end in ("min", "max") for axis in axes]
    extent = "area" if dimensions == 2 else "volume"
    return ["image", "id", *axes, *box, "pixels", extent, "unit", "score", "trusted", "group"]


def extent_of(pixels: int, geometry: Geometry | None) -> tuple[float | None, str | None]:
    """Return the area or volume of a number of pixels, and its unit; None where the spacing is unknown."""
    if geometry is None:
        return None, None
    return pixels * math.prod(geometry.spacing), geometry.unit + "²³"[len(geometry.spacing) - 2]


@dataclass(frozen=True)
class FilesOfObjects(FilesBesideMasks):
    """The files about the objects of all images, by name."""

    folder: Path
    images: Mapping[str, ObjectFiles]

    @classmethod
    def beside(cls, folder: Path, masks: Mapping[str, Path], dimensions: int) -> "FilesOfObjects":
        """Return the files in a folder beside these masks."""
        measure()  # a library that is missing is not found after the first images
        files = {name: ObjectFiles.of(folder, name, mask, dimensions) for name, mask in masks.items()}
        return cls(folder, files)

    def of(self, name: str) -> list[Path]:
        """Return the files of an image."""
        files = self.images[name]
        return [path for path in (files.labels, files.table, files.outlines) if path is not None]

    @property
    def of_all(self) -> list[Path]:
        """The table of all objects."""
        return [self.folder / OBJECT_TABLE]

    def write(
        self, batch: Batch, index: int, group: str, score: Array, mask: Array, under: SourceImage
    ) -> None:
        """Write the files of an image of a batch, by its score and its mask, (*space)."""
        name, labels = batch.names[index], labels_of(batch)[index, 0].numpy()
        self.images[name].write(name, group, labels, score, mask, under)

    def join(self) -> None:
        """Write the tables of all images as one, objects.csv."""
        (path,) = self.of_all
        with atomic_write(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
            for place, files in enumerate(self.images.values()):
                lines = files.table.read_text(encoding="utf-8").splitlines(keepends=True)
                file.writelines(lines if place == 0 else lines[1:])


def _row(
    name: str, group: str, found: Any, score: Array, mask: Array, geometry: Geometry | None
) -> dict[str, Json]:
    """Return the line of an object of skimage's; its box reaches from min to max, which is outside."""
    pixel, dimensions = tuple(found.coords[0]), score.ndim
    places = [*(round(float(place), 3) for place in found.centroid), *map(int, found.bbox)]
    extent = extent_of(int(found.num_pixels), geometry)
    facts = [int(found.num_pixels), *extent, float(score[pixel]), bool(mask[pixel] > 0), group]
    return dict(zip(columns(dimensions), [name, int(found.label), *places, *facts], strict=True))


def _feature(found: Any, row: Mapping[str, Json]) -> dict[str, Json]:
    """Return an object as a detection of QuPath's, as its own GeoJSON has it."""
    kind = "trusted" if row["trusted"] else "hidden"
    measured = {"score": row["score"], "pixels": row["pixels"]}
    measured |= {} if row["area"] is None else {f"area {row['unit']}": row["area"]}
    return {
        "type": "Feature",
        "geometry": {"type": "MultiPolygon", "coordinates": list(_polygons(found))},
        "properties": {
            "objectType": "detection",
            "name": str(row["id"]),
            "classification": {"name": kind, "color": COLORS[kind]},
            "measurements": measured,
        },
    }


def _polygons(found: Any) -> Iterator[list[Json]]:
    """Yield each part of an object that hangs together by sides: its outline, then its holes.

    Outlines pass halfway between the centres of pixels, so that those inside are the object's.
    """
    parts, count = scipy.ndimage.label(found.image)
    for part in range(1, count + 1):
        rings = measure().find_contours(np.pad(parts == part, 1).astype(float), 0.5)
        rings.sort(key=lambda ring: -float(np.ptp(ring, axis=0).prod()))
        yield [(ring - 0.5 + found.bbox[:2])[:, ::-1].tolist() for ring in rings]
