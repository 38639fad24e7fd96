"""What napari opens: a run goes to the widget, a folder of masks becomes layers, one for each image."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from napari import current_viewer

from conformask.data.decoding import name_and_suffix, times_of
from conformask.data.formats.format import Shape
from conformask.data.images import list_images
from conformask.data.rasters import Raster, open_raster
from conformask.deployment.folder import CLAIM, MASKS, MaskFolder
from conformask.masker.folder import CALIBRATION, read_promise
from conformask.napari.layers import Index, Places, drawn, lazy, placed
from conformask.records.geometry import Geometry
from conformask.storage.as_json import Json, read_json
from conformask.types import Array

LayerData = tuple[Any, ...]
Read = Callable[..., list[LayerData]]
PLUGIN, WIDGET = "conformask", "Masks"
"""As the manifest names them."""
NOTHING: list[LayerData] = [(None,)]
"""What a reader returns that read a file and has no layer for it."""
TIME = re.compile(r"(.+)_t\d{3,}")
"""The name of one time point."""


def reader_of(path: str | Sequence[str]) -> Read | None:
    """What reads this path; None where it is neither a run, nor masks that conformask wrote."""
    if not isinstance(path, str):
        return None
    folder = Path(path).parent if Path(path).name in (CALIBRATION, CLAIM) else Path(path)
    if (folder / CALIBRATION).is_file():
        return lambda _: _of_run(folder)
    if (folder / CLAIM).is_file():
        return lambda _: _of_masks(folder, list_images(folder / MASKS))
    if folder.parent.name == MASKS and (folder.parents[1] / CLAIM).is_file():
        return lambda _: _of_masks(folder.parents[1], [folder])
    return None


def _of_run(folder: Path) -> list[LayerData]:
    """Choose a run in the widget, which is opened where it is not yet; a run has no layers.

    Raises:
        MismatchError: a file of it is damaged, or was not saved with the others.
    """
    read_promise(folder)
    viewer = current_viewer()
    if viewer is not None:
        _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
        widget.run.value = folder
    return NOTHING


def _of_masks(folder: Path, files: Sequence[Path]) -> list[LayerData]:
    """A layer for each image, or each film; the first is shown.

    Raises:
        ImageError: the header of a mask cannot be read.
    """
    claim, sizes = read_json(folder / CLAIM), MaskFolder(folder).lines()
    layers: list[LayerData] = []
    for name, rasters in _films(files):
        known = {each: sizes[each].mask_size for each in rasters if each in sizes}
        metadata = {"promise": claim.get("promise"), "masker": claim.get("fingerprint"), "mask_sizes": known}
        layers.append(_layer(name, list(rasters.values()), metadata, visible=not layers))
    return layers


def _films(files: Sequence[Path]) -> Iterator[tuple[str, dict[str, Raster]]]:
    """Masks by name; those of the time points of one file together, in their order, joined or not."""
    films: dict[tuple[str, Shape, Geometry | None], dict[str, Raster]] = {}
    for point in (point for file in files for point in _points(file)):
        raster, name = open_raster(point), name_and_suffix(point)[0]
        match, header = TIME.fullmatch(name), raster.header
        film = name if match is None else match[1]
        films.setdefault((film, header.shape, header.geometry), {})[name] = raster
    for (film, *_), rasters in films.items():
        yield film if len(rasters) > 1 else next(iter(rasters)), rasters


def _points(file: Path) -> list[Path]:
    """The time points of a file; the file where it has no axis of time."""
    times = times_of(file)
    return [file] if times is None else [file.with_name(f"{file.name}#t={time}") for time in range(times)]


def _layer(name: str, rasters: Sequence[Raster], metadata: dict[str, Json], *, visible: bool) -> LayerData:
    header = rasters[0].header
    lead = (len(rasters),) if len(rasters) > 1 else ()

    def read(index: Index, places: Places) -> Array:
        return rasters[index[0] if index else 0].read(places)

    data = lazy(read, lead, header.space, header.channels)
    where, how = placed(header.geometry, lead, header.space), drawn(header.channels)
    about = {"name": f"mask of {name}", "metadata": metadata, "visible": visible}
    return data, {**where, **how, **about}, "image"
