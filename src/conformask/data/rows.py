"""The rows of a collection of triplets: where the images of each lie, and what is read of them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from conformask.data.cues import check_size, cues_at, read_cues
from conformask.data.datasets import UnreadImage
from conformask.data.formats.header import Header
from conformask.data.images import Image, header_of_image, image_and_header, image_hash
from conformask.data.labels import components, read_labels
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
from conformask.errors import ImageError, InvalidArgumentError
from conformask.records.geometry import Geometry
from conformask.records.reading import Reading
from conformask.records.reference import CLEAN, Reference
from conformask.records.size import Size
from conformask.storage.as_arrays import Array
from conformask.storage.as_json import hash_of
from conformask.types import Triplet

Role = Literal["x", "y_hat", "y", "repeat"]
FileRole = Literal[Role, "cues", "labels", "y_labels"]


@dataclass(frozen=True, eq=False)
class TripletRow:
    """One triplet, not yet read: its images, name, group, category, weight and part.

    Whatever reads a file, or only its header, raises an ImageError that names it if that fails.
    """

    name: str
    x: UnreadImage
    y_hat: UnreadImage
    y: UnreadImage | None = None
    group: str | None = None
    category: str | None = None
    weight: float | None = None
    part: str | None = None
    region: Path | Array | None = None
    """The pixels that the promise is about; None for all."""
    cues: UnreadImage | None = None
    """Maps beside y_hat; None without."""
    repeat: UnreadImage | None = None
    """A second acquisition of y, whose noise is independent of that of y and x; None without."""
    noisy: bool = False
    """True if y is an acquisition with noise, even without a second one."""
    labels: UnreadImage | None = None
    """Labels of the objects of y_hat; None without, or for components."""
    y_labels: UnreadImage | None = None
    """Labels of the objects of y."""

    def reference(self, reading: Reading) -> Reference:
        """Return what y is."""
        if self.repeat is not None:
            return Reference(2)
        return Reference(1, reading.noise_model) if self.noisy else CLEAN

    def read(self, reading: Reading) -> Triplet:
        """Read the triplet.

        Raises:
            ImageError: an image cannot be read, y and y_hat have different shapes or lie in different places,
                or a region is empty.
        """
        (x, x_header), (y_hat, y_hat_header) = self._image("x", reading), self._image("y_hat", reading)
        y, y_header = (None, None) if self.y is None else self._image("y", reading)
        half = None
        if self.repeat is not None and y is not None:
            y, half = self._with_repeat(y, y_hat_header, reading)
        if y is not None and y.shape != y_hat.shape:
            raise ImageError(
                f"triplet {self.name!r}: y has shape {y.shape}, but y_hat has {y_hat.shape} (C, *space); "
                "they must be the same"
            )
        if x.ndim != y_hat.ndim:
            raise ImageError(
                f"triplet {self.name!r}: x has shape {x.shape}, but y_hat has {y_hat.shape} (C, *space); one "
                "is a volume, the other is not"
            )
        self._check_places({"x": x_header, "y": y_header}, y_hat_header)
        geometry, patient = y_hat_header.geometry, y_hat_header.patient
        region = None if self.region is None else self._region(reading, y_hat.shape[1:], geometry)
        if reading.nan is not None:
            x, y_hat, y, region = without_nan(self.name, x, y_hat, y, region)
            half = None if half is None else np.nan_to_num(half)
        clipped = max(header.clipped for header in (x_header, y_hat_header, y_header) if header is not None)
        cues = None
        if self.cues is not None:
            cues = cues_at(y_hat.shape[1:], self.read_cues(reading), self._text("cues"))
        labels = self._labels("y_hat", self.labels, y_hat, reading, geometry)
        y_labels = None if y is None else self._labels("y", self.y_labels, y, reading, geometry)
        if labels is not None:
            cues = labels if cues is None else np.concatenate([cues, labels])
        return Triplet(
            self.name, x, y_hat, y, self.group, self.category, self.weight, region, geometry, patient,
            clipped, cues, half, self.reference(reading), y_labels,
        )  # fmt: skip

    def _labels(
        self, role: str, given: UnreadImage | None, image: Image, reading: Reading, geometry: Geometry | None
    ) -> Image | None:
        """Return the labels of the objects of an image; None where they are not known."""
        if reading.components_above is not None:
            return components(image, reading.components_above, self._text(role))
        if given is None:
            return None
        return read_labels(given, image.shape[1:], reading, f"labels of {self._text(role)}", geometry)

    def _with_repeat(self, y: Image, y_hat: Header, reading: Reading) -> tuple[Image, Image]:
        """Return the mean of y and its repeat, and half their difference.

        Two of one file are its first and its second half of the channels.

        Raises:
            ImageError: they have different shapes or places, or are the same image.
        """
        repeat, header = self._image("repeat", reading)
        if isinstance(self.y, Path) and self.y == self.repeat:
            y, repeat = np.array_split(y, 2)
        if repeat.shape != y.shape:
            raise ImageError(
                f"triplet {self.name!r}: its repeats have shapes {y.shape} and {repeat.shape}; they must be "
                "the same"
            )
        if np.array_equal(y, repeat):
            raise ImageError(
                f"triplet {self.name!r}: its two repeats are the same image; give two acquisitions"
            )
        self._check_places({"repeat": header}, y_hat)
        return (y + repeat) / 2, (y - repeat) / 2

    def read_cues(self, reading: Reading) -> Image:
        """Read the maps beside y_hat, (K, *space); those of a file only if its header says their size."""
        assert self.cues is not None
        if isinstance(self.cues, Path):
            space = header_of_image(self.cues, reading).space
            check_size(self.header("y_hat", reading).space, space, str(self.cues))
        return read_cues(self.cues, reading, self._text("cues"))

    def header(self, role: Role, reading: Reading) -> Header:
        """Return the header of an image, which is not decoded."""
        return header_of_image(getattr(self, role), reading, self._text(role))

    def raster(self, role: Role, reading: Reading) -> Raster:
        """Open an image to be read window by window; only its header is read now."""
        return open_raster(getattr(self, role), reading.of(role), self._text(role))

    def cue_raster(self, reading: Reading) -> Raster | None:
        """Open the maps beside y_hat to be read window by window; None where there are none."""
        cues = self.cues
        return None if cues is None else open_raster(cues, reading.of("cues"), self._text("cues"))

    def region_window(self, reading: Reading) -> RegionWindow | None:
        """Open the region that `read` would return, to be read window by window; None where there is none."""
        y_hat = self.raster("y_hat", reading)
        region = None if self.region is None else self._region_window(reading, y_hat.header)
        if reading.nan is None:
            return region
        x = self.raster("x", reading)
        y = [] if self.y is None else [self.raster("y", reading)]
        images = [image for image in (x, y_hat, *y) if image.size == y_hat.size]
        return lambda places: not_nan(
            (image.read(places) for image in images), None if region is None else region(places)
        )

    def source(self, reading: Reading) -> str:
        """Return a hash of the files or arrays and of how they are read."""
        others = self.region, self.cues, self.repeat, self.labels, self.y_labels
        images = (self.x, self.y_hat, self.y, *(image for image in others if image is not None))
        hashes = [None if image is None else image_hash(image) for image in images]
        return hash_of([*reading.facts, self.category, self.weight, *hashes])[:16]

    def _text(self, role: str) -> str:
        return f"{role} of triplet {self.name!r}"

    def _image(self, role: Role, reading: Reading) -> tuple[Array, Header]:
        return image_and_header(getattr(self, role), reading.of(role), self._text(role))

    def _region(self, reading: Reading, size: Size, geometry: Geometry | None) -> Region:
        if isinstance(self.region, Path):
            return read_region(self.region, size, reading, geometry)
        return region_of_array(np.asarray(self.region), size, self._text("region"), reading.axes)

    def _region_window(self, reading: Reading, y_hat: Header) -> RegionWindow:
        if isinstance(self.region, Path):
            return region_window(self.region, y_hat.space, reading, y_hat.geometry)
        region = self._region(reading, y_hat.space, y_hat.geometry)
        return lambda places: region[:, *places]

    def _check_places(self, headers: Mapping[str, Header | None], y_hat: Header) -> None:
        """Raise for images of the size of y_hat that lie in another place."""
        for role, header in headers.items():
            if header is None or header.geometry is None or y_hat.geometry is None:
                continue
            difference = header.geometry.differs(y_hat.geometry) if header.space == y_hat.space else None
            if difference:
                raise ImageError(
                    f"triplet {self.name!r}: {role} and y_hat have {difference}; they must have the same "
                    "position: write y_hat with the header of its input"
                )


def grouping(where: str, reading: Reading) -> Callable[[TripletRow], str]:
    """Return a function that finds the group of a row in its name or files.

    Args:
        where: a regular expression whose one group, in brackets, is found in every name; or "patient", the
            hash of the patient that the file of y_hat names or, where it names none, the file of x.
        reading: how files are read.

    Raises:
        InvalidArgumentError: it is neither; later, if a name or file does not give a group.
    """

    def patient(row: TripletRow) -> str:
        patient = row.header("y_hat", reading).patient or row.header("x", reading).patient
        if patient is None:
            raise InvalidArgumentError(
                f"the files of x and y_hat of {row.name!r} name no patient: group_from patient reads the "
                "PatientID of DICOM files; give a regular expression for the names instead, such as "
                "sub-([^_]+)"
            )
        return patient

    if where == "patient":
        return patient
    try:
        pattern = re.compile(where)
    except re.error as error:
        raise InvalidArgumentError(f"group_from {where!r} is not a regular expression: {error}") from error
    if pattern.groups != 1:
        raise InvalidArgumentError(
            f"group_from {where!r} has {pattern.groups} groups in brackets; give exactly one, such as "
            "sub-([^_]+)"
        )

    def group(row: TripletRow) -> str:
        match = pattern.search(row.name)
        if match is None or not match[1]:
            raise InvalidArgumentError(f"group_from {where!r} does not match the name {row.name!r}")
        return match[1]

    return group
