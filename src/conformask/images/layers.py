"""Layers: what lies beside x, y_hat and y, such as the region of a promise, maps and labels.

A `LayerKind` says how its layer is found, read, opened window by window, batched and checked; whatever
handles images asks the kinds in `LAYERS` and knows none of them. Leaves and packages add kinds by entry
points of `conformask.layers`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float

from conformask import extensions
from conformask.arrays import Array, Batch, Triplet
from conformask.errors import ImageError, MissingFileError, warn_once
from conformask.images.formats import Header, Places, SourceImage, arranged, channels_first, image_of_array
from conformask.images.read import (
    Image,
    Raster,
    UnreadImage,
    decode_with_header,
    header_of_image,
    open_raster,
)
from conformask.records.reading import PLAIN, Geometry, Reading, Size, size_text

if TYPE_CHECKING:
    from conformask.images.rows import TripletRow

SHOWN = 5
"""Number of names that an error lists."""


@dataclass(frozen=True)
class OpenedLayer:
    """A layer of which only the windows in use are in memory."""

    name: str
    """Name of the file or array, for messages."""
    size: Size
    """Size of the layer, (H, W) or (D, H, W)."""
    read: Callable[[Places], Image]
    """A function that reads a window, (K, *space)."""

    @classmethod
    def of(cls, raster: Raster) -> "OpenedLayer":
        """Return a layer with the values of a raster, as its file holds them."""
        return cls(raster.name, raster.size, raster.values)


class FilesBesideMasks(ABC):
    """Files that lie beside masks, of each image and of all."""

    @abstractmethod
    def of(self, name: str) -> list[Path]:
        """Return the files of an image."""

    @property
    @abstractmethod
    def of_all(self) -> list[Path]:
        """The files of all images together."""

    @abstractmethod
    def write(
        self, batch: Batch, index: int, group: str, score: Array, mask: Array, under: SourceImage
    ) -> None:
        """Write the files of an image of a batch, by its score and its mask, (*space)."""

    @abstractmethod
    def join(self) -> None:
        """Write the files of all images from those of each."""


@dataclass(frozen=True)
class Findings:
    """What `conformask check` shows of a layer of all images."""

    fields: Mapping[str, Any]
    """Its entries in the JSON, None where there is nothing to say."""
    rows: tuple[tuple[str, str], ...] = ()
    """Its lines in the table, each with a label."""
    plot: Callable[[], str] | None = None
    """A function that draws a plot of it, as SVG text; None where there is nothing to draw."""


@dataclass(frozen=True)
class LayerKind:
    """A kind of layer: finite values of any range, of the size of y_hat or a whole fraction of it.

    Its files lie in a folder of its name beside y_hat/, or in a column of its name in the manifest; arrays
    are given as `Triplets.from_arrays(layers={name: arrays})`, and items of a dataset hold it under its name.
    A package adds a kind by an entry point of the group `conformask.layers` with the name of the layer; a
    subclass says what is special.

    Args:
        name: the key in `Triplet.layers` and `Batch.layers`.
        role: the image that a function may make it of, y_hat or y; empty where none may.

    Examples:
        >>> import numpy as np
        >>> from conformask import Triplets
        >>> y = np.random.default_rng(0).random((2, 8, 8), dtype=np.float32)
        >>> triplets = Triplets.from_arrays(y, y, y, cues=[y[0] * 9, y[1] * 9])
        >>> triplets[1].layers["cues"].shape, triplets[1].layers["cues"].max() > 1
        ((1, 8, 8), True)
    """

    name: str
    role: str = ""
    found_by_stem: ClassVar[bool] = True
    """True if its files have the names of the images, each with exactly one partner."""
    without_time: ClassVar[bool] = False
    """True if one file may be for all time points of an image."""
    may_be_empty: ClassVar[bool] = False
    """True if its cells in a manifest may be empty."""
    beside_manifest: ClassVar[bool] = False
    """True if its folder is looked for beside a manifest that has no column for it."""
    makes_y: ClassVar[bool] = False
    """True if y is made of it: it is read before other layers, and y stands for it."""
    trained_with: ClassVar[bool] = True
    """True if it is read where a score is trained."""
    said: ClassVar[str] = ""
    """What images have that have it, such as regions, in words; empty where it is not said of them."""

    @property
    def plural(self) -> str:
        """The word for those of all images, and their argument of `Triplets.from_arrays`."""
        return self.name

    def place(self, reading: Reading) -> str | None:
        """Return its folder beside y_hat/, and its column in a manifest; None where it is not asked for."""
        return self.name

    def required(self, reading: Reading) -> str | None:
        """Return what to say where the folder is missing; None if it may be."""
        return None

    def folder(self, beside: Path, reading: Reading) -> Path | None:
        """Return the folder with the layer of each image; None where there is none.

        Raises:
            MissingFileError: it is required, and not there.
        """
        place = self.place(reading)
        if place is None or (beside / place).is_dir():
            return None if place is None else beside / place
        if (why := self.required(reading)) is not None:
            raise MissingFileError(f"{beside} has no folder {place}/, {why}")
        return None

    def attach(self, rows: "list[TripletRow]", beside: Path, reading: Reading) -> "list[TripletRow]":
        """Return the rows with the layer, where its files are not found by the stems of images."""
        return rows

    def complete(self, row: "TripletRow") -> "TripletRow":
        """Return a row of a manifest, or of arrays, with what else follows from the layer."""
        return row

    def is_known(self, row: "TripletRow", reading: Reading) -> bool:
        """Return whether a row has the layer."""
        return self.name in row.layers

    def add(self, row: "TripletRow", triplet: Triplet, reading: Reading) -> Triplet:
        """Read the layer of a row, and return the triplet with it."""
        values, size = self.values(row, reading), triplet.y_hat.shape[1:]
        check_size(size, values.shape[1:], row.text(self.name))
        for axis, (side, part) in enumerate(zip(size, values.shape[1:], strict=True), start=1):
            values = values if side == part else values.repeat(side // part, axis=axis)
        return with_layer(triplet, self.name, np.ascontiguousarray(values))

    def values(self, row: "TripletRow", reading: Reading) -> Image:
        """Read the layer as it is, (K, *space); that of a file only if its header says the size."""
        source, name = row.layers[self.name], row.text(self.name)
        if isinstance(source, Path):
            space = header_of_image(source, reading.of(self.name)).space
            check_size(row.header("y_hat", reading).space, space, str(source))
        return read_values(source, reading.of(self.name), name)

    def check(self, values: Array, name: str) -> None:
        """Raise for values that the layer cannot have; messages call it `name`."""
        check_finite(values, name)

    def check_header(self, header: Header, name: str) -> None:
        """Raise for a file that cannot hold the layer, by its header."""

    def files_beside(
        self, folder: Path, masks: Mapping[str, Path], dimensions: int
    ) -> "FilesBesideMasks | None":
        """Return the files in a folder beside the masks, by name, of a promise about the layer, if any."""
        return None

    def opened(self, row: "TripletRow", reading: Reading) -> OpenedLayer | None:
        """Open the layer of a row, to be read window by window; None where it has none."""
        if self.name not in row.layers:
            return None
        return OpenedLayer.of(open_raster(row.layers[self.name], reading.of(self.name), row.text(self.name)))

    def batched(self, triplet: Triplet) -> dict[str, Image]:
        """Return what a batch holds of the layer, by name."""
        return {self.name: triplet.layers[self.name]} if self.name in triplet.layers else {}

    def measure(self, triplet: Triplet, place: int) -> Any:
        """Return what is measured of a triplet in the one pass over all images; None if nothing.

        `place` counts the images that were measured before.
        """
        return None

    def verdicts(self, measures: Mapping[str, Any]) -> Iterable[tuple[str, bool]]:
        """Return what spoils a promise, and whether beyond doubt, by what was measured of each image."""
        return ()

    def findings(self, measures: Mapping[str, Any]) -> Findings:
        """Return what `conformask check` shows of the layer, by what was measured of each image."""
        return Findings({})


def with_layer(triplet: Triplet, name: str, layer: Image) -> Triplet:
    """Return the triplet with one more layer."""
    return replace(triplet, layers={**triplet.layers, name: layer})


def check_places(name: str, headers: "dict[str, Header | None]", size: Size, place: Geometry | None) -> None:
    """Raise for images of the size of y_hat that lie in another place than y_hat."""
    for role, header in headers.items():
        if header is None or header.geometry is None or place is None:
            continue
        difference = header.geometry.differs(place) if header.space == size else None
        if difference:
            raise ImageError(
                f"triplet {name!r}: {role} and y_hat have {difference}; they must have the same "
                "position: write y_hat with the header of its input"
            )


def check_ground(name: str, headers: "dict[str, Header | None]", y_hat: Header) -> None:
    """Raise for images that cover other ground than y_hat, whatever the size of their pixels.

    Warns:
        ConformaskWarning: only one of two images states its coordinate system, once per process.
    """
    for role, header in headers.items():
        if header is None or header.ground is None or y_hat.ground is None:
            continue
        if difference := y_hat.ground.differs(header.ground, y_hat.space):
            raise ImageError(
                f"triplet {name!r}: {role} and y_hat have {difference}; they must cover the same ground, "
                "with pixels of whatever size: cut them to it, or write y_hat with the coordinates of its "
                "input"
            )
        if (y_hat.ground.system is None) != (header.ground.system is None):
            warn_once(
                "coordinate system",
                f"triplet {name!r}: of {role} and y_hat only one states the EPSG code of its coordinate "
                "system, so whether they cover the same ground is not known, here and in images like these: "
                "state it in the other one (gdal_edit -a_srs)",
            )


@dataclass(frozen=True)
class Regions(LayerKind):
    """The pixels that a promise is about, (1, *space) in [0, 1], without NaN where that may be."""

    name: str = "region"
    plural = "regions"
    without_time = True
    said = "regions"

    def is_known(self, row: "TripletRow", reading: Reading) -> bool:
        """Return whether a row has a region, or pixels are outside of it by their values."""
        return self.name in row.layers or reading.leaves_out

    def add(self, row: "TripletRow", triplet: Triplet, reading: Reading) -> Triplet:
        """Return the triplet with its region, and 0 in the place of NaN."""
        if self.name not in row.layers:
            return without_nan(triplet, None)
        region = self._read(row, reading, triplet.y_hat.shape[1:], triplet.geometry)
        return without_nan(triplet, region) if reading.leaves_out else with_layer(triplet, self.name, region)

    def _read(self, row: "TripletRow", reading: Reading, size: Size, geometry: Geometry | None) -> "Region":
        source = row.layers[self.name]
        if isinstance(source, Path):
            return read_region(source, size, reading, geometry)
        return region_of_array(np.asarray(source), size, row.text(self.name), reading.axes)

    def opened(self, row: "TripletRow", reading: Reading) -> OpenedLayer | None:
        """Open the region that `add` would return; that it is not empty is not checked."""
        if not self.is_known(row, reading):
            return None
        y_hat, name = row.raster("y_hat", reading), f"the region of {row.name!r}"
        size, source = y_hat.size, row.layers.get(self.name)
        read: Callable[[Places], Region] | None = None
        if isinstance(source, Path):
            read = region_window(source, size, reading, y_hat.header.geometry)
        elif source is not None:
            region = self._read(row, reading, size, y_hat.header.geometry)
            read = partial(_window_of, region)
        if not reading.leaves_out:
            return read and OpenedLayer(name, size, read)
        images = (row.raster(role, reading) for role in ("x", "y_hat", "y") if row.image(role) is not None)
        rasters = [image for image in images if image.size == size]
        return OpenedLayer(
            name,
            size,
            lambda places: not_nan(
                (image.read(places) for image in rasters), None if read is None else read(places)
            ),
        )

    def measure(self, triplet: Triplet, place: int) -> float | None:
        """Return the share of the pixels that are in the region."""
        return float(triplet.layers[self.name].mean()) if self.name in triplet.layers else None

    def findings(self, measures: Mapping[str, float]) -> Findings:
        """Return the share of the pixels that are in the region, on average, and of which images."""
        if not measures:
            return Findings({"region_share": None})
        shares = list(measures.values())
        mean, *ends = (100 * each for each in (sum(shares) / len(shares), min(shares), max(shares)))
        text = "{:.3g} % of the pixels of an image ({:.3g} to {:.3g} %)".format(mean, *ends)
        return Findings({"region_share": mean / 100}, (("in the region", text),))


def _window_of(region: "Region", places: Places) -> "Region":
    return region[:, *places]


@dataclass(frozen=True)
class Cues(LayerKind):
    """Maps beside y_hat that say where it may be wrong, (K, *space) of any range."""

    name: str = "cues"
    said = "cues"

    def place(self, reading: Reading) -> str | None:
        """Return the folder, and the column, that the reading names."""
        return reading.cues

    def required(self, reading: Reading) -> str | None:
        """Return what to say where the folder is missing."""
        return "which the score needs: one map for each image, in a file of its name"


def read_values(image: UnreadImage, reading: Reading, name: str) -> Image:
    """Read values as float32 (K, *space), as a file or array holds them; `name` is for errors."""
    if isinstance(image, Path):
        name, (array, header) = str(image), decode_with_header(image, reading)
    else:
        array, header = image_of_array(np.asarray(image), name, reading.axes)
    values: Image = channels_first(array, len(header.space)).astype(np.float32)
    check_finite(values, name)
    return values


def check_finite(values: Array, name: str) -> None:
    """Raise for NaN and infinity."""
    if not np.isfinite(values).all():
        raise ImageError(
            f"{name} holds NaN, or values that are infinite in float32: give a finite value at every pixel"
        )


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


def without_nan(triplet: Triplet, region: Region | None) -> Triplet:
    """Return a triplet with 0 for NaN, and a region without the pixels that are NaN in one of its images.

    NaN in x counts only where x has the size of y_hat.
    """
    size = triplet.y_hat.shape[1:]
    images = (triplet.x, triplet.y_hat, triplet.y)
    inside = not_nan([image for image in images if image is not None and image.shape[1:] == size], region)
    if not inside.any():
        raise ImageError(
            f"triplet {triplet.name!r} is NaN or without truth everywhere, so nothing can be promised: "
            "leave it out"
        )
    layers = {name: np.nan_to_num(layer) for name, layer in triplet.layers.items()}
    return replace(
        triplet,
        x=np.nan_to_num(triplet.x),
        y_hat=np.nan_to_num(triplet.y_hat),
        y=None if triplet.y is None else np.nan_to_num(triplet.y),
        layers=layers | {"region": inside},
    )


def not_nan(images: Iterable[Array], region: Region | None) -> Region:
    """Return the region, or 1 if None, without the pixels where an image (C, *space) holds NaN."""
    inside = np.float32(1) if region is None else region
    for image in images:
        inside = inside * ~np.isnan(image).any(axis=0, keepdims=True)
    return np.asarray(inside, np.float32)


LAYERS = extensions.Extensions(extensions.LAYERS, LayerKind, {"region": Regions(), "cues": Cues()})
"""All kinds of layers, by name."""


def as_read() -> list[LayerKind]:
    """Return all kinds in the order in which they are read: those that make y come first."""
    return sorted(LAYERS.values(), key=lambda kind: not kind.makes_y)


def batched(triplet: Triplet) -> dict[str, Image]:
    """Return what a batch holds of all layers of a triplet, by name."""
    return {name: layer for kind in LAYERS.values() for name, layer in kind.batched(triplet).items()}


class Measures(dict[str, dict[str, Any]]):
    """What was measured of layers in one pass over all images, by kind and by the name of the image."""

    def add(self, triplet: Triplet) -> None:
        """Measure a triplet."""
        for name, kind in LAYERS.items():
            if (measured := kind.measure(triplet, len(self.get(name, ())))) is not None:
                self.setdefault(name, {})[triplet.name] = measured

    def verdicts(self) -> list[tuple[str, str, bool]]:
        """Return the word for layers, what spoils a promise by them, and if beyond doubt; these first."""
        found = [
            (LAYERS[name].plural, text, breaks)
            for name, measures in self.items()
            for text, breaks in LAYERS[name].verdicts(measures)
        ]
        return sorted(found, key=lambda verdict: not verdict[2])
