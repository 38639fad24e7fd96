"""Roles of layers and folders: images, masks of conformask, runs, and the probable output of two images."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from napari.layers import Image, Layer

from conformask.deployment.folder import CLAIM, MASKS
from conformask.errors import ConformaskError
from conformask.masker.serialization import SCORER_FILES, read_promise
from conformask.records.card import CALIBRATION
from conformask.storage.as_json import read_json

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
    if card.loss.of_objects:
        return f"{run} is about objects: run `conformask mask {run} DATA OUT`, and drag OUT onto napari"
    return None
