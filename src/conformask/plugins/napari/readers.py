"""Readers of napari: a run goes to the widget, masks of one size and scale become one layer."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from napari import current_viewer
from napari.utils.notifications import show_info

from conformask.data.decoding import name_and_suffix, read_header, times_of
from conformask.data.formats.format import Shape
from conformask.data.formats.header import Header
from conformask.data.images import list_images
from conformask.data.rasters import Raster, open_raster
from conformask.deployment.folder import CLAIM, MASKS, MaskFolder
from conformask.plugins.napari.layers import Index, Places, layer_style, lazy_masks
from conformask.plugins.napari.register import align_to, placement_from_geometry, with_size
from conformask.plugins.napari.roles import images_in, is_run, mask_folder
from conformask.records.card import CALIBRATION
from conformask.records.geometry import Geometry
from conformask.storage.as_arrays import Array
from conformask.storage.as_json import Json, read_json

LayerData = tuple[Any, ...]
Read = Callable[..., list[LayerData]]
PLUGIN, WIDGET = "conformask", "Masks"
"""Names of plugin and widget in the manifest."""
NOTHING: list[LayerData] = [(None,)]
"""Result of a reader that read a file and has no layer for it."""
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

    Raises:
        ImageError: the header of a mask cannot be read.
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
        layers.append(_layer(films, metadata, visible=not layers))
    return layers


def _natural_sort_key(file: Path) -> list[str | int]:
    """Return a sort key with 2 before 10, as napari sorts a folder, so that place n is the same image."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)]


def _films(files: Sequence[Path]) -> list[MaskSeries]:
    """Return masks by name; the time points of one file stay together, in order, joined or not."""
    films: dict[tuple[str, Shape, Geometry | None], MaskSeries] = {}
    for point in (point for file in files for point in _time_points(file)):
        header, name = read_header(point), name_and_suffix(point)[0]
        match = TIME.fullmatch(name)
        file = name if match is None else match[1]
        film = films.setdefault((file, header.shape, header.geometry), MaskSeries(file, {}, header))
        film.points[name] = point
    return list(films.values())


def _time_points(file: Path) -> list[Path]:
    """Return the time points of a file; the file where it has no axis of time."""
    times = times_of(file)
    return [file] if times is None else [file.with_name(f"{file.name}#t={time}") for time in range(times)]


def _layer(films: Sequence[MaskSeries], metadata: dict[str, Json], *, visible: bool) -> LayerData:
    header, times = films[0].header, len(films[0].points)
    sides = {label: side for label, side in (("image", len(films)), ("t", times)) if side > 1}
    lead, files = tuple(sides.values()), [file for film in films for file in film.points.values()]

    @lru_cache(maxsize=1)
    def raster(index: int) -> Raster:  # keeps no pixels and open files of the others
        return open_raster(files[index])

    def read(index: Index, places: Places) -> Array:
        return raster(int(np.ravel_multi_index(index, lead)) if index else 0).read(places)

    data = lazy_masks(read, lead, header.space, header.channels)
    name = films[0].name if len(films) == 1 else f"{len(films)} images"
    placement = _align(
        placement_from_geometry(header.geometry, tuple(sides), header.space), header, films[0].name
    )
    properties = {
        "name": f"mask{'s' if len(films) > 1 else ''} of {name}",
        "metadata": metadata,
        "visible": visible,
    }
    return data, {**placement, **layer_style(header.channels), **properties}, "image"


def _align(placement: dict[str, Any], header: Header, name: str) -> dict[str, Any]:
    """Place masks over an open layer of their size, best with their name; else as their files say."""
    viewer = current_viewer()
    images = with_size(images_in(viewer.layers), header.space) if viewer is not None else []
    if not images:
        return placement
    # max returns the first of equals: reversed, so that the topmost layer wins
    layer = max(
        reversed(images), key=lambda candidate: name_and_suffix(Path(candidate.source.path or ""))[0] == name
    )
    aligned = align_to(layer, placement)
    if header.geometry is not None and not np.allclose(aligned["scale"], placement["scale"]):
        scale_text = header.geometry.text
        show_info(
            f"The masks lie over layer {layer.name!r} and have its scale, not the {scale_text} of their files"
        )
    return aligned
