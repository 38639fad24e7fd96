"""Readers of napari: a run goes to the widget, masks of one size and scale become one layer."""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
from napari import current_viewer
from napari.utils.notifications import show_info

from conformask.extras.napari.layers import (
    Index,
    align_to,
    images_in,
    is_run,
    layer_style,
    lazy_masks,
    mask_folder,
    placement_from_geometry,
    with_size,
)
from conformask.images.formats import Header, Places, Shape
from conformask.images.read import Raster, list_images, name_and_suffix, open_raster, read_header, times_of
from conformask.masker.folder import CLAIM, MASKS, OBJECTS, MaskFolder
from conformask.records.reading import PLAIN, Geometry, Size
from conformask.records.record import CALIBRATION, Array, read_json

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
    claim, sizes = read_json(folder / CLAIM), MaskFolder(folder).lines()
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
    from conformask.extras.objects.files import ObjectFiles

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
