"""Layers of napari: images, masks over them, and those that its reader makes of a run or of masks on disk."""

import csv
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
from napari import current_viewer
from napari.layers import Image, Layer
from napari.utils import Colormap
from napari.utils.notifications import show_info

from conformask.errors import ConformaskError, MismatchError
from conformask.images.formats import DataRange, Header, Places, Shape, bits_of, range_of, zeros_on_disk
from conformask.images.layers import OpenedLayer
from conformask.images.pictures import HATCH
from conformask.images.read import (
    Raster,
    in_own_range,
    list_images,
    name_and_suffix,
    open_raster,
    read_header,
    times_of,
)
from conformask.images.rows import OpenedTriplet, Role
from conformask.masker.admission import NewImage
from conformask.masker.folder import CLAIM, MASKS, OBJECTS, MaskFolder
from conformask.masker.masker import Masker
from conformask.masker.run_folder import SCORER_FILES, read_promise
from conformask.masker.whole import ScoredImage, WholeImage
from conformask.records.card import Domain
from conformask.records.reading import PLAIN, Geometry, Size
from conformask.records.record import CALIBRATION, Array, read_json, read_sealed

Index = tuple[int, ...]
"""Index of one image of a layer: its place along each axis before the spatial ones."""
ReadMask = Callable[[Index, Places], Array]
"""Function that reads a window of one mask, float32 (C, *space)."""
DENSITY = 0.75
"""Opacity where a mask hides; napari draws no hatch, so that the image has to shine through."""
SIDE = 1024
"""Side, in pixels, of the parts of a plane that are read at once."""
TRUSTED, HIDDEN = (np.array([*HATCH, 255 * opacity]) / 255 for opacity in (0, DENSITY))


def lazy_masks(read: ReadMask, lead: Size, size: Size, channels: int) -> da.Array:
    """Return masks as one array (*lead, *size) or (*lead, *size, C), read plane by plane on demand."""
    channel_axis = () if channels == 1 else (channels,)
    shape = (*lead, *size, *channel_axis)
    sides = (*(1,) * (len(lead) + len(size) - 2), SIDE, SIDE, *channel_axis)

    def read_block(block_info: Mapping[Any, Any]) -> Array:
        spans = block_info[None]["array-location"]
        index = tuple(start for start, _ in spans[: len(lead)])
        places = tuple(slice(*span) for span in spans[len(lead) : len(lead) + len(size)])
        mask = read(index, places)
        window: Array = np.moveaxis(mask, 0, -1) if channel_axis else mask[0]
        return window[(None,) * len(lead)]

    chunks = da.core.normalize_chunks(sides, shape)
    masks: da.Array = da.map_blocks(read_block, chunks=chunks, dtype=np.float32, name=f"masks-{uuid4().hex}")
    return masks


def layer_style(channels: int) -> dict[str, Any]:
    """Return how to draw a mask layer: yellow where it hides; several channels each darken their own."""
    common: dict[str, Any] = {"contrast_limits": (0.0, 1.0)}
    if channels > 1:
        return {**common, "rgb": True, "blending": "multiply"}
    hidden = Colormap([HIDDEN, TRUSTED], name="conformask hidden", display_name="hidden")
    # minip shows the smallest value along a ray through a volume: wherever something is hidden
    return {**common, "colormap": hidden, "blending": "translucent", "rendering": "minip"}


def finest_array(layer: Image) -> Any:
    """Return the array of a layer, for a pyramid that of its finest resolution."""
    return layer.data[0] if layer.multiscale else layer.data


def placement_of(layer: Image) -> dict[str, Any]:
    """Return the placement of a layer, for a mask of it."""
    names = ("scale", "translate", "rotate", "shear", "units", "axis_labels")
    shared = {name: getattr(layer, name) for name in names}
    return {**shared, "affine": np.array(layer.affine.affine_matrix)}


def placement_from_geometry(geometry: Geometry | None, lead: Sequence[str], size: Size) -> dict[str, Any]:
    """Return the placement of masks according to their files.

    Args:
        geometry: the geometry in the files; if None, a pixel has size 1.
        lead: the labels of the axes before the spatial ones, such as t.
        size: the size of a mask, (H, W) or (D, H, W).
    """
    steps, unit = ((1.0,) * len(size), "pixel") if geometry is None else (geometry.spacing, geometry.unit)
    return {
        "axis_labels": (*lead, *"zyx"[-len(size) :]),
        "scale": (*(1.0,) * len(lead), *steps),
        "translate": (0.0,) * (len(lead) + len(size)),
        "units": (*("pixel",) * len(lead), *(unit,) * len(size)),
    }


def geometry_of(layer: Image, axes: int, unit: str) -> Geometry | None:
    """Return the spacing of a layer along its last axes, in a unit; None where it has no units of length."""
    units = layer.units[-axes:]
    if not all(each.is_compatible_with(unit) for each in units):
        return None
    steps = zip(layer.scale[-axes:], units, strict=True)
    return Geometry(tuple(float((step * each).to(unit).magnitude) for step, each in steps), unit)


def align_to(layer: Image, placement: dict[str, Any]) -> dict[str, Any]:
    """Move masks to where a layer lies, along the axes that both have, counted from the last."""

    def align_values(name: str) -> tuple[Any, ...]:
        values, layer_values = tuple(placement[name]), tuple(getattr(layer, name))
        return (*values[: -len(layer_values)], *layer_values[-len(values) :])

    return {**placement, **{name: align_values(name) for name in ("scale", "translate", "units")}}


def with_size(layers: Iterable[Image], size: Size) -> list[Image]:
    """Return the layers whose last axes have this size."""
    return [layer for layer in layers if layer.ndim >= len(size) and size_of(layer, len(size)) == size]


def size_of(layer: Image, axes: int) -> Size:
    """Return the number of pixels of a layer along its last axes, at its finest resolution."""
    return tuple(finest_array(layer).shape[layer.ndim - axes : layer.ndim])


def explain_offset(layer: Image, other: Image, axes: int) -> str | None:
    """Explain how to lay a layer over another, if their ends along the last axes differ by over a pixel."""
    ends, target = _ends(layer, axes), _ends(other, axes)
    in_units_of_other = _ratios(layer.units[-axes:], other.units[-axes:])
    if (abs(ends * in_units_of_other - target) <= other.scale[-axes:]).all():
        return None
    scale = (target[1] - target[0]) / size_of(layer, axes)
    assignments = {
        "scale": _numbers((*layer.scale[:-axes], *scale)),
        "translate": _numbers((*layer.translate[:-axes], *target[0])),
        "units": repr(tuple(map(str, (*layer.units[:-axes], *other.units[-axes:])))),
    }
    lines = "; ".join(
        f"viewer.layers[{layer.name!r}].{name} = {value}" for name, value in assignments.items()
    )
    return (
        f"Layer {layer.name!r} does not lie over {other.name!r}, because its scale or translation differs. "
        f"To place it over {other.name!r}, type into napari's console: {lines}"
    )


def _ends(layer: Image, axes: int) -> Array:
    """Return where the layer starts and where it ends along its last axes, in its units, (2, axes)."""
    start, step = layer.translate[-axes:], layer.scale[-axes:]
    return np.stack([start, start + step * size_of(layer, axes)])


def _ratios(units: Sequence[Any], others: Sequence[Any]) -> Array:
    """Return factors that convert lengths; 1 for inconvertible units, which napari then ignores."""
    pairs = zip(units, others, strict=True)
    return np.array([(1 * a).to(b).magnitude if a.is_compatible_with(b) else 1.0 for a, b in pairs])


def _numbers(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in values)})"


OUTPUT = re.compile(r"y_?hat|ŷ|output|predict|restor|denois", re.IGNORECASE)
"""Pattern of probable names of a network's output, or of its folder."""
SAME_LAYER = (
    "input x and output ŷ are the same layer: choose the network's input as x, and what it made of it as ŷ"
)
CHOOSE = "choose the folder that `conformask calibrate` or `masker.save` wrote"


def mask_folder(path: Path) -> Path | None:
    """Return the mask folder that a path is, or belongs to as its masks.json, its masks/ or a mask in it."""
    if (path / CLAIM).is_file():
        return path
    inside = path.name in (CLAIM, MASKS)
    folder = path.parent if inside else path.parent.parent
    belongs = inside or path.parent.name == MASKS
    return folder if belongs and (folder / CLAIM).is_file() else None


def images_in(layers: Iterable[Layer]) -> list[Image]:
    """Return the image layers, without masks of conformask, whoever opened them."""
    return [layer for layer in layers if isinstance(layer, Image) and not is_mask(layer)]


def is_mask(layer: Layer) -> bool:
    """Return whether conformask made the layer, or wrote the file that it was opened from."""
    path = layer.source.path
    return "masker" in layer.metadata or (path is not None and mask_folder(Path(path)) is not None)


def guess_pair(
    layers: Sequence[Image], x: Image | None, y_hat: Image | None
) -> tuple[Image | None, Image | None]:
    """Return input and output as chosen; guess missing ones, the input first, never one layer as both.

    An output is recognised by its name or folder; else it is the first of the other layers.
    """
    if x is None:
        others = [layer for layer in layers if layer is not y_hat]
        x = next((layer for layer in others if not _sounds_like_output(layer)), None)
    if y_hat is None:
        others = [layer for layer in layers if layer is not x]
        y_hat = next(filter(_sounds_like_output, others), next(iter(others), None))
    return x, y_hat


def _sounds_like_output(layer: Image) -> bool:
    folder = Path(layer.source.path).parent.name if layer.source.path else ""
    return any(OUTPUT.search(name) for name in (layer.name, folder))


def is_run(folder: Path) -> bool:
    """Return whether something was calibrated in this folder, or at least trained."""
    return any((folder / name).is_file() for name in (CALIBRATION, SCORER_FILES[0]))


def needs_map(run: Path) -> bool:
    """Return whether the score of a calibrated run is read from maps beside y_hat."""
    return bool(read_json(run / SCORER_FILES[0]).get("cue_channels"))


def trouble_of(run: Path | None) -> str | None:
    """Return why masks cannot be made with this run, and what to do; None if they can, or without a run."""
    if run is None:
        return None
    if not run.is_dir():
        return f"{run} {'is not a folder' if run.exists() else 'does not exist'}: {CHOOSE}"
    if not is_run(run):
        return f"{run} is not a run, because it contains no {CALIBRATION}: {CHOOSE}"
    if not (run / CALIBRATION).is_file():
        return f"{run} is not calibrated: run `conformask calibrate {run} DATA --threshold ...` first"
    try:
        card, _ = read_promise(run)
    except ConformaskError as error:
        return str(error)
    if card.loss.extent.counts_objects:
        return f"{run} is about objects: run `conformask mask {run} DATA OUT`, and drag OUT onto napari"
    return None


RGB = 3
"""Number of channels of a layer that is shown in colour; its opacity is not read."""


@dataclass(frozen=True)
class Frames:
    """The images of a layer, at its finest resolution: one for each place along the axes before the last."""

    layer: Image
    dimensions: int
    """Number of axes of an image: 2 or 3."""

    def __post_init__(self) -> None:
        if self.layer.ndim < self.dimensions:
            raise MismatchError(
                f"layer {self.layer.name!r} has {self.layer.ndim} axes, but the calibration images have "
                f"{self.dimensions} spatial axes; choose a layer of volumes, or a run for planes"
            )

    @property
    def lead(self) -> Size:
        """Number of images along each axis before the spatial ones."""
        return tuple(finest_array(self.layer).shape[: self.layer.ndim - self.dimensions])

    @property
    def size(self) -> Size:
        """Size of an image, (H, W) or (D, H, W)."""
        return size_of(self.layer, self.dimensions)

    def raster(self, index: Index, role: Role, card: Domain, data_range: DataRange | None) -> Raster:
        """Return one image as a raster, without reading it."""
        plain, unit = self.plain_raster(index), "mm" if card.geometry is None else card.geometry.unit
        plain = replace(
            plain, header=replace(plain.header, geometry=geometry_of(self.layer, self.dimensions, unit))
        )
        if data_range is None:
            return replace(plain, reading=card.reading_of(role, np.dtype(finest_array(self.layer).dtype)))
        reading = replace(card.reading, data_range=data_range, inverted=role in card.turned)
        return replace(plain, reading=reading.of(role))

    def plain_raster(self, index: Index) -> Raster:
        """Return one image, such as a map beside y_hat, with the values of the layer, without reading it."""
        name = f"layer {self.layer.name!r}" + (f" at {', '.join(map(str, index))}" if index else "")
        array = finest_array(self.layer)
        dtype = np.dtype(array.dtype)
        channels = RGB if self.layer.rgb else 1
        header = Header(channels, self.size, bits_of(dtype), range_of(dtype, name))

        def read_window(places: Places) -> Array:
            values = np.asarray(array[(*index, *places)])
            return values[..., :RGB] if self.layer.rgb else values

        return Raster(name, header, PLAIN, read_window)


def images_of(
    masker: Masker, x: Image, y_hat: Image, data_range: DataRange | None, cues: Image | None = None
) -> list[OpenedTriplet]:
    """Return the images of layers in order, checked as far as possible without reading them.

    Args:
        masker: the masker that is to mask them.
        x: the layer of the inputs.
        y_hat: the layer of the network's outputs, with as many images.
        data_range: the values that become 0 and 1; if None, those of the calibration, or of the type.
        cues: the layer of the maps beside y_hat, of its size, if the score is read from them.
    """
    layers = (x, y_hat) if cues is None else (x, y_hat, cues)
    inputs, outputs, *maps = (Frames(layer, len(masker.card.sizes[0])) for layer in layers)
    for other in (inputs, *maps):
        if other.lead != outputs.lead:
            raise MismatchError(
                f"layer {other.layer.name!r} has {other.lead} images along its first axes, but layer "
                f"{y_hat.name!r} has {outputs.lead}: each output needs its own"
            )
    images = []
    for index in np.ndindex(outputs.lead):
        x_raster = inputs.raster(index, "x", masker.card, data_range)
        output = outputs.raster(index, "y_hat", masker.card, data_range)
        x_raster, output = in_own_range(masker.card.read, x_raster, output)
        beside = {"cues": OpenedLayer.of(maps[0].plain_raster(index))} if maps else {}
        images.append(OpenedTriplet(output.name, x_raster, output, None, beside))
    masker.admit(NewImage.of_opened(images[0]))
    WholeImage(masker, images[0]).check()
    return images


def score_images(masker: Masker, images: Sequence[OpenedTriplet]) -> Generator[int, None, list[ScoredImage]]:
    """Score images of one size into one temporary file; yield, at each tile, the total number of tiles."""
    wholes = [WholeImage(masker, image) for image in images]
    scores = zeros_on_disk(f"the score of {images[0].name}", (len(images), *wholes[0].shape[1:]))
    total = len(images) * len(wholes[0].windows)
    for index, whole in enumerate(wholes):
        for _ in whole.score_into(scores[index : index + 1]):
            yield total
    return [whole.scored(scores[index : index + 1]) for index, whole in enumerate(wholes)]


LayerData = tuple[Any, ...]
Read = Callable[..., list[LayerData]]
PLUGIN, WIDGET = "conformask", "Masks"
"""Names of plugin and widget in the manifest."""
NOTHING: list[LayerData] = [(None,)]
"""Result of a reader that read a file and has no layer for it."""
FEATURES: dict[str, Callable[[str], Any]] = {
    "image": str, "id": int, "pixels": int, "score": float, "trusted": "True".__eq__,
}  # fmt: skip
"""Columns of objects.csv that become features, with what reads them."""
TIME = re.compile(r"(.+)_t\d{3,}")
"""Pattern of the name of one time point."""


@dataclass(frozen=True)
class MaskSeries:
    """The masks of one image, or of each time point of its file, in order; no pixel is read yet."""

    file: str
    """Name of the image's file."""
    points: dict[str, Path]
    """Paths of the masks, by name."""
    header: Header
    """Header that all masks share."""

    @property
    def name(self) -> str:
        """Name of the file, or of the only time point."""
        return self.file if len(self.points) > 1 else next(iter(self.points))

    @property
    def kind(self) -> tuple[object, ...]:
        """Properties that masks in one layer share: time points, channels, size and spacing."""
        geometry = self.header.geometry
        return len(self.points), self.header.shape, geometry and (geometry.spacing, geometry.unit)


def reader_of(path: str | Sequence[str]) -> Read | None:
    """Return a reader of this path, or these; None for anything but a run or masks that conformask wrote."""
    paths = [Path(entry) for entry in ([path] if isinstance(path, str) else path)]
    run = paths[0].parent if paths[0].name == CALIBRATION else paths[0]
    if len(paths) == 1 and is_run(run):
        return lambda *_, **__: _open_run(run)
    folder, *others = {mask_folder(entry) for entry in paths}
    if folder is None or others:
        return None
    masks = [entry for entry in paths if entry.parent == folder / MASKS]
    return lambda *_, **__: _mask_layers(folder, masks or list_images(folder / MASKS))


def _open_run(folder: Path) -> list[LayerData]:
    """Choose a run in the widget, opening the widget first; it reports problems of the run."""
    viewer = current_viewer()
    if viewer is not None:
        _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
        widget.run.value = folder
    return NOTHING


def _mask_layers(folder: Path, files: Sequence[Path]) -> list[LayerData]:
    """Return a layer for each set of images, or films, with masks of one size and scale; show the first.

    Where objects are promised, a layer with the labels of the trusted ones lies over it.
    """
    claim, sizes = read_sealed(folder / CLAIM), MaskFolder(folder).lines()
    films_by_kind: dict[tuple[object, ...], list[MaskSeries]] = {}
    for film in _films(sorted(files, key=_natural_sort_key)):
        films_by_kind.setdefault(film.kind, []).append(film)
    layers: list[LayerData] = []
    for films in films_by_kind.values():
        names = [name for film in films for name in film.points]
        metadata = {
            "sentence": claim.get("sentence", claim.get("promise")),  # promise: up to conformask 0.2
            "masker": claim.get("fingerprint"),
            "names": [film.name for film in films],
            "mask_sizes": {name: sizes[name].mask_size for name in names if name in sizes},
        }
        properties = {**_placement(films), "visible": not layers, "metadata": metadata}
        layers.append(_layer(films, properties))
        if (folder / OBJECTS).is_dir():
            layers.append(_objects_layer(folder, films, properties))
    return layers


def _natural_sort_key(file: Path) -> list[str | int]:
    """Return a sort key with 2 before 10, as napari sorts a folder, so that place n is the same image."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)]


def _films(files: Sequence[Path]) -> list[MaskSeries]:
    """Return masks by name; the time points of one file stay together, in order, joined or not."""
    films: dict[tuple[str, Shape, Geometry | None], MaskSeries] = {}
    points: list[Path] = []
    for path in files:
        times = times_of(path)
        points += (
            [path] if times is None else [path.with_name(f"{path.name}#t={time}") for time in range(times)]
        )
    for point in points:
        header, name = read_header(point), name_and_suffix(point)[0]
        match = TIME.fullmatch(name)
        file = name if match is None else match[1]
        film = films.setdefault((file, header.shape, header.geometry), MaskSeries(file, {}, header))
        film.points[name] = point
    return list(films.values())


def _sides(films: Sequence[MaskSeries]) -> dict[str, int]:
    """Return the number of images along each axis before the spatial ones."""
    sides = ("image", len(films)), ("t", len(films[0].points))
    return {label: side for label, side in sides if side > 1}


def _name(films: Sequence[MaskSeries]) -> str:
    return films[0].name if len(films) == 1 else f"{len(films)} images"


def _layer(films: Sequence[MaskSeries], properties: dict[str, Any]) -> LayerData:
    header, lead = films[0].header, tuple(_sides(films).values())
    files = [file for film in films for file in film.points.values()]

    @lru_cache(maxsize=1)
    def raster(index: int) -> Raster:  # keeps no pixels and open files of the others
        return open_raster(files[index])

    def read(index: Index, places: Places) -> Array:
        return raster(int(np.ravel_multi_index(index, lead)) if index else 0).read(places)

    data = lazy_masks(read, lead, header.space, header.channels)
    name = f"mask{'s' if len(films) > 1 else ''} of {_name(films)}"
    return data, {**layer_style(header.channels), **properties, "name": name}, "image"


def _objects_layer(folder: Path, films: Sequence[MaskSeries], properties: dict[str, Any]) -> LayerData:
    """Return the trusted objects as labels; in several images they count on from those of the image before.

    The features are columns of objects.csv, for hidden objects too.
    """
    from conformask.extras.objects.labels import ObjectFiles

    space, first, parts = films[0].header.space, 0, []
    features: dict[str, list[Any]] = {name: [] for name in ("index", *FEATURES)}
    for name, mask in (point for film in films for point in film.points.items()):
        # labels of time points stay in files of their own
        files = ObjectFiles.of(folder, name, Path(name + name_and_suffix(mask)[1]), len(space))
        parts.append(da.from_delayed(_labels_from(files.labels, space, first), space, np.int32))
        with files.table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                features["index"].append(first + int(row["id"]))
                for column, kind in FEATURES.items():
                    features[column].append(kind(row[column]))
        first = max([first, *features["index"]])
    data = da.stack(parts).reshape((*_sides(films).values(), *space))
    return data, {**properties, "name": f"objects of {_name(films)}", "features": features}, "labels"


@dask.delayed  # type: ignore[untyped-decorator]
def _labels_from(file: Path, size: Size, first: int) -> Array:
    from conformask.extras.objects.labels import read_labels

    labels = read_labels(file, size, PLAIN, file.name)[0].astype(np.int32)
    return np.where(labels > 0, first + labels, 0)


def _placement(films: Sequence[MaskSeries]) -> dict[str, Any]:
    """Place masks over an open layer of their size, best with their name; else as their files say."""
    header, viewer = films[0].header, current_viewer()
    placement = placement_from_geometry(header.geometry, tuple(_sides(films)), header.space)
    images = with_size(images_in(viewer.layers), header.space) if viewer is not None else []
    if not images:
        return placement
    # max returns the first of equals: reversed, so that the topmost layer wins
    layer = max(
        reversed(images),
        key=lambda candidate: name_and_suffix(Path(candidate.source.path or ""))[0] == films[0].name,
    )
    aligned = align_to(layer, placement)
    if header.geometry is not None and not np.allclose(aligned["scale"], placement["scale"]):
        scale_text = header.geometry.text
        show_info(
            f"The masks lie over layer {layer.name!r} and have its scale, not the {scale_text} of their files"
        )
    return aligned
