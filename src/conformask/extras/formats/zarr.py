"""OME-Zarr images, and masks of them. Needs the extra zarr."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from math import ceil, prod
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np

from conformask.errors import ImageError, MissingFileError, failure_of_system
from conformask.extensions import pip_install, required
from conformask.images.formats import (
    Blocks,
    Factors,
    Format,
    Header,
    ImageHandle,
    Places,
    Shape,
    SourceImage,
    bits_of,
    check_memory,
    fill_level,
    halved,
    halvings,
    range_of,
    rounded_down,
    time_point,
)
from conformask.images.tiff import NGFF_UNITS, geometry_of
from conformask.records.reading import Reading
from conformask.records.record import Array

COLOURS = ("FF0000", "00FF00", "0000FF")
"""Colours of three channels; any other number of channels is shown in white."""
WINDOW = {"min": 0, "max": 65535, "start": 0, "end": 65535}
"""Display range, from black to white, for viewers."""
LETTERS = {"time": "t", "channel": "c"}
"""Letters of NGFF axes by their types, whatever their names."""
TYPES = {letter: kind for kind, letter in LETTERS.items()}
"""Types of the axes that are not spatial."""


@dataclass(frozen=True)
class AxisPlacement:
    """Step, origin and unit of an axis of an NGFF image; the unit is None where none is stated."""

    step: float = 1.0
    origin: float = 0.0
    unit: str | None = None


def image_of(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the first of the multiscales in the attributes of a group, of NGFF 0.4 or 0.5."""
    image: Mapping[str, Any] = attributes.get("ome", attributes)["multiscales"][0]
    return image


def axes_of(image: Mapping[str, Any]) -> tuple[str, ...]:
    """Return t, c, z, y or x for each axis; the name for others."""
    letters = []
    for axis in image["axes"]:
        stated = {"name": axis} if isinstance(axis, str) else axis
        name, kind = str(stated["name"]), stated.get("type")
        letters.append(LETTERS.get(str(kind), name.lower() if kind == "space" else name))
    return tuple(letters)


def placements_of(image: Mapping[str, Any]) -> dict[str, AxisPlacement]:
    """Return the placement of the highest resolution, by its dataset's transformations, then the image's."""
    axes = image["axes"]
    scale, translation, scaled = np.ones(len(axes)), np.zeros(len(axes)), False
    for holder in (image["datasets"][0], image):
        for transformation in holder.get("coordinateTransformations") or ():
            if "scale" in transformation:
                factors = np.reshape([float(factor) for factor in transformation["scale"]], len(axes))
                scale, translation, scaled = scale * factors, translation * factors, True
            elif "translation" in transformation:
                shift = [float(origin) for origin in transformation["translation"]]
                translation = translation + np.reshape(shift, len(axes))
    # units mean nothing for steps that are only counted
    units = [axis.get("unit") if scaled and isinstance(axis, Mapping) else None for axis in axes]
    columns = zip(axes_of(image), scale.tolist(), translation.tolist(), units, strict=True)
    return {axis: AxisPlacement(step, origin, unit and str(unit)) for axis, step, origin, unit in columns}


def write_zarr_blocks(path: Path, shape: Shape, blocks: Blocks, block: int, under: SourceImage) -> None:
    """Write a mask of 16 bits, [t, c, z, y, x] without t or z where it has none, and its smaller levels.

    The chunks are the blocks.
    """
    try:
        import zarr

        axes = ["t", "c", *"zyx"[2 - len(shape) :]] if under.is_film else ["c", *"zyx"[1 - len(shape) :]]
        lead, spacing = axes.index("c") + 1, under.geometry.spacing if under.geometry else None
        steps = [(*(1,) * lead, *factors) for factors in halvings(shape[lead:], spacing)]
        attributes = {"ome": _metadata(axes, shape[0], steps, under)}
    except ImportError as error:
        raise MissingFileError(f"{path} needs zarr: {pip_install('zarr')}") from error
    group = zarr.create_group(path, zarr_format=3, attributes=attributes)
    level = _level(group, 0, _as_stored(shape, lead), axes, block)
    for places, values in blocks:
        level[_as_stored((slice(None), *places), lead)] = rounded_down(values).swapaxes(0, lead - 1)
    for number, factors in enumerate(steps, 1):
        smaller = _level(group, number, halved(level.shape, factors), axes, block)
        fill_level(smaller, level, factors, smaller.chunks)
        level = smaller


def _level(group: Any, number: int, shape: Shape, axes: list[str], block: int) -> Any:
    return group.create_array(
        str(number),
        shape=shape,
        chunks=tuple(min(1 if axis in "tc" else block, side) for axis, side in zip(axes, shape, strict=True)),
        dtype="uint16",
        dimension_names=axes,
        config={"write_empty_chunks": True},
    )


def _as_stored(values: tuple[Any, ...], lead: int) -> tuple[Any, ...]:
    """Reorder C, [T], space to the order of the file: [T], C (`lead` axes), space."""
    return (*values[1:lead], values[0], *values[lead:])


def _metadata(axes: list[str], count: int, steps: list[Factors], under: SourceImage) -> dict[str, Any]:
    """Return the NGFF metadata of a mask and its levels, validated by yaozarrs."""
    from yaozarrs.v05 import Image

    places = _placements(under, axes)
    totals = accumulate(steps, lambda total, step: tuple(map(mul, total, step)), initial=(1,) * len(axes))
    image = {
        "name": f"mask of {under.path.name}, 1 = trusted" if under.path else "mask, 1 = trusted",
        "axes": [
            {
                "name": axis,
                "type": TYPES.get(axis, "space"),
                **({} if place.unit is None else {"unit": place.unit}),
            }
            for axis, place in zip(axes, places, strict=True)
        ],
        "datasets": [
            {"path": str(number), "coordinateTransformations": _transformations(places, factors)}
            for number, factors in enumerate(totals)
        ],
        "type": "mean",
        "metadata": {"description": "means of neighbouring pixels, rounded down"},
    }
    colours = COLOURS if count == len(COLOURS) else ("FFFFFF",) * count
    channels = [{"color": colour, "window": WINDOW, "label": "mask", "active": True} for colour in colours]
    model = Image.model_validate({"version": "0.5", "multiscales": [image], "omero": {"channels": channels}})
    metadata: dict[str, Any] = model.model_dump(mode="json", exclude_none=True)
    return metadata


def _placements(under: SourceImage, axes: list[str]) -> list[AxisPlacement]:
    """Return the placement of each axis of a mask, by the geometry and the metadata of its image."""
    import zarr

    places, folder = dict.fromkeys(axes, AxisPlacement()), under.file_and_time[0]
    if folder is not None and folder.suffix == ".zarr" and folder.is_dir():
        source = placements_of(image_of(zarr.open_group(folder, mode="r").attrs))
        shared = [axis for axis in axes if axis != "c"]
        if set(shared) <= set(source):
            places |= {axis: source[axis] for axis in shared}
    if under.geometry is not None:
        unit = NGFF_UNITS[under.geometry.unit]
        for axis, step in zip(reversed(axes), reversed(under.geometry.spacing), strict=False):
            places[axis] = replace(places[axis], step=step, unit=unit)
    return list(places.values())


def _transformations(places: Sequence[AxisPlacement], factors: Factors) -> list[dict[str, Any]]:
    """Return the transformations of a level; the centre of its first pixel, a mean, lies further in."""
    pairs = list(zip(places, factors, strict=True))
    centre = [place.origin + place.step * (factor - 1) / 2 for place, factor in pairs]
    steps: list[dict[str, Any]] = [
        {"type": "scale", "scale": [place.step * factor for place, factor in pairs]}
    ]
    return steps + ([{"type": "translation", "translation": centre}] if any(centre) else [])


COMPRESSORS = ("gzip", "zlib", "bz2", "blosc", "lz4", "zstd")
CODECS = {*COMPRESSORS, "bytes", "crc32c", "sharding_indexed", "shuffle", "transpose"}
"""Codecs that only turn chunks into numbers."""
AXES = ("t", "c", "z", "y", "x")
SHOWN = 3
"""Number of missing chunks that an error names."""


@dataclass(frozen=True)
class ZarrLevel:
    """The highest resolution of an OME-Zarr image, or of one time point of it."""

    path: Path
    array: Any
    """The zarr array."""
    axes: tuple[str, ...]
    places: Mapping[str, AxisPlacement]
    """Placement of each axis."""
    time: int = 0

    @property
    def folder(self) -> Path:
        """Folder of its chunks."""
        return self.path / str(self.array.path)

    @property
    def sides(self) -> dict[str, int]:
        """Length of each axis."""
        return dict(zip(self.axes, self.array.shape, strict=True))

    @property
    def spatial(self) -> tuple[str, ...]:
        """Spatial axes of an image; (y, x) for a single plane."""
        return ("z", "y", "x") if self.sides.get("z", 1) > 1 else ("y", "x")

    @property
    def header(self) -> Header:
        """Header of the image, known without its pixels."""
        dtype, sides, places = self.array.dtype, self.sides, self.places
        geometry = geometry_of([(places[axis].step, places[axis].unit) for axis in self.spatial])
        space = tuple(sides[axis] for axis in self.spatial)
        data_range = range_of(dtype, str(self.path))
        return Header(sides.get("c", 1), space, bits_of(dtype), data_range, geometry)

    def window(self, places: Places) -> Array:
        """Read the pixels of a window, (*space) or (*space, C), in the file's type."""
        first = f"{'planes' if len(places) == 3 else 'rows'} {places[0].start} to {places[0].stop}"
        values = self.sides.get("c", 1) * prod(span.stop - span.start for span in places)
        check_memory(f"{self.path}, {first},", self.array.dtype.itemsize * values)
        image_axes = ("c", *self.spatial)
        slices = (span if axis in image_axes else span.start for axis, span in self._slices(places))
        try:
            self._check_blosc(places)
            pixels: Array = np.asarray(self.array[tuple(slices)])
        except Exception as error:  # zarr's codecs share no type of error
            if failure_of_system(error) is not None:
                raise
            raise ImageError(
                f"{self.path}: {first} cannot be read ({error}): a chunk may be truncated; copy the folder "
                "again"
            ) from error
        return np.moveaxis(pixels, 0, -1) if "c" in self.axes else pixels

    def _slices(self, places: Places) -> list[tuple[str, slice]]:
        """Return each axis, and the slice of a window along it."""
        slices = {"t": slice(self.time, self.time + 1), "c": slice(0, self.sides.get("c", 1))}
        slices |= dict(zip(self.spatial, places, strict=True))
        return [(axis, slices.get(axis, slice(0, 1))) for axis in self.axes]

    def keys(self, places: Places) -> Iterator[str]:
        """Yield the names of the files of the chunks, or shards, that hold a window."""
        files = zip(self._slices(places), self.array.shards or self.array.chunks, strict=True)
        spans = [range(span.start // side, ceil(span.stop / side)) for (_, span), side in files]
        return (self.array.metadata.encode_chunk_key(place) for place in _places(spans))

    def _check_blosc(self, places: Places) -> None:
        """Raise ValueError for a truncated chunk of Blosc, which reads past its end and says nothing."""
        if self.array.shards is not None or "blosc" not in _codecs(self.array):
            return
        for key in self.keys(places):
            if (file := self.folder / key).is_file():
                with file.open("rb") as content:
                    stated, size = int.from_bytes(content.read(16)[12:], "little"), file.stat().st_size
                if size < max(stated, 16):
                    raise ValueError(f"chunk {key} has {size} bytes, but its header states {stated}")


def _codecs(array: Any) -> list[str]:
    """Return the names of the codecs of an array, including those inside its shards, in encoding order."""
    if array.metadata.zarr_format == 2:
        codecs = [*(array.metadata.filters or ()), array.metadata.compressor]
        return [str(codec.codec_id) for codec in codecs if codec is not None]
    return list(_names_of_codecs(array.metadata.to_dict()["codecs"]))


def _names_of_codecs(codecs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for codec in codecs:
        yield str(codec["name"]).removeprefix("numcodecs.")
        yield from _names_of_codecs(codec.get("configuration", {}).get("codecs", ()))


def open_zarr(path: Path, reading: Reading, time: int | None) -> AbstractContextManager[ImageHandle]:
    """Open the image of an OME-Zarr folder, or one time point of it, if none of its files is missing.

    zarr reads missing chunks as black, and a mask would vouch for them; inside shards nothing looks for them.
    """
    level = _open_level(path)
    level = replace(level, time=time_point(path, level.sides.get("t"), time))
    check_memory(f"a chunk of {path}", level.array.dtype.itemsize * prod(level.array.chunks))
    header = level.header
    _check_chunks(level, header.everywhere, reading.empty_chunks)
    return nullcontext(ImageHandle(header, lambda: level.window(header.everywhere), lambda: level.window))


def times_of_zarr(path: Path, reading: Reading) -> int | None:
    """Return the number of time points of a folder; None where it has one, or no axis of time."""
    times = _open_level(path).sides.get("t", 1)
    return times if times > 1 else None


def _open_level(path: Path) -> ZarrLevel:
    """Open the highest resolution of an OME-Zarr folder."""
    zarr = required("zarr", path, "zarr")
    try:
        group = zarr.open_group(path, mode="r")
    except Exception as error:  # of many types, for a folder that is damaged or something else
        raise ImageError(f"{path} is not an OME-Zarr image ({error}); copy the folder again") from error
    try:
        image = image_of(group.attrs)
        array, *coarser = (group[dataset["path"]] for dataset in image["datasets"])
        _check_largest(path, array, coarser)
        level = ZarrLevel(path, array, axes_of(image), placements_of(image))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ImageError(
            f"{path} is not an OME-Zarr image: it has no multiscales with axes and datasets ({error}); "
            "write it with an OME-Zarr writer of NGFF 0.4 or 0.5"
        ) from error
    _check_axes(level)
    _check_codecs(level)
    return level


def _check_largest(path: Path, array: Any, coarser: Sequence[Any]) -> None:
    if any(prod(other.shape) > prod(array.shape) for other in coarser):
        raise ImageError(
            f"{path}: the first of its datasets, {array.path!r} {array.shape}, is not the largest: NGFF "
            "lists them from the highest resolution down; put them in this order in its metadata"
        )


def _check_codecs(level: ZarrLevel) -> None:
    """Raise for codecs that are not on the list: one of numcodecs runs whatever a chunk holds, as pickle."""
    names = _codecs(level.array)
    unknown = [name for name in names if name not in CODECS]
    if unknown or level.array.dtype.kind not in "buif":
        problem = f"contains {level.array.dtype} encoded by {', '.join(names)}"
        if unknown:
            problem = f"uses the codec {unknown[0]}"
        raise ImageError(
            f"{level.path} {problem}, which is not supported: write integers or floats, with one of "
            f"{', '.join(COMPRESSORS)}"
        )


def _check_axes(level: ZarrLevel) -> None:
    axes, shape = level.axes, level.array.shape
    in_order = len(axes) == len(shape) and list(axes) == [axis for axis in AXES if axis in axes]
    names = getattr(level.array.metadata, "dimension_names", None) or ()
    if any(name is not None and name.lower() != axis for name, axis in zip(names, axes, strict=False)):
        raise ImageError(
            f"{level.path}: the array names its axes {', '.join(map(str, names))}, but the image's metadata "
            f"name them {', '.join(axes)}: correct the one that is wrong"
        )
    if not in_order or axes[-2:] != ("y", "x"):
        raise ImageError(
            f"{level.path} has axes {', '.join(axes)} of shape {shape}; an image needs y and x, preceded by "
            "any of t, c and z in this order: write it with these axes"
        )


def _check_chunks(level: ZarrLevel, places: Places, empty: bool) -> None:
    files = ((key, level.folder / key) for key in level.keys(places))
    # an empty file is a failed copy; a chunk that has no file may be empty
    holding = ((key, file, file.is_file() and file.stat().st_size > 0) for key, file in files)
    lost = (key for key, file, holds_bytes in holding if not holds_bytes and (file.exists() or not empty))
    missing = list(islice(lost, SHOWN + 1))
    if missing:
        more = " and more" if len(missing) > SHOWN else ""
        raise ImageError(
            f"{level.path} is missing chunks {', '.join(missing[:SHOWN])}{more} of array "
            f"{level.array.path!r}: copy it again. If its writer left out empty chunks, write it with "
            "write_empty_chunks=True, or have them read as empty, --empty-chunks (empty_chunks=True)"
        )


def _places(spans: Sequence[range]) -> Iterator[tuple[int, ...]]:
    """Yield places one by one; itertools.product would list each span, and headers may state any number."""
    if not spans:
        yield ()
        return
    for first in spans[0]:
        yield from ((first, *others) for others in _places(spans[1:]))


OME_ZARR = Format(
    open_zarr,
    write_blocks=write_zarr_blocks,
    any_channels=True,
    volumes=True,
    films=True,
    mask_suffix=".ome.zarr",
    is_folder=True,
    times=times_of_zarr,
)
