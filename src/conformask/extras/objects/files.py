"""Files about objects under a mask: labels, a table and outlines."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from conformask.arrays import Array, Batch
from conformask.extensions import required
from conformask.extras.objects.loss import labels_of
from conformask.images.formats import SourceImage
from conformask.images.layers import FilesBesideMasks
from conformask.images.read import OF_VOLUMES, write_blocks
from conformask.masker.folder import LABELS, OBJECT_TABLE, OBJECTS
from conformask.records.reading import Geometry
from conformask.records.record import Json, atomic_write, write_csv

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
        labels = folder / LABELS / (f"{name}{OF_VOLUMES}" if is_rescaled else mask.name)
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
