"""Which layers are images, which masks of ours, and which of two images is probably the network's output."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from napari.layers import Image, Layer

from conformask.deployment.folder import CLAIM, MASKS

OUTPUT = re.compile(r"y_?hat|ŷ|output|predict|restor|denois", re.IGNORECASE)
"""What the name of a network's output, or of its folder, probably holds."""


def mask_folder(path: Path) -> Path | None:
    """The folder of masks that a path is, or belongs to as its masks.json, its masks/ or a mask in there."""
    if (path / CLAIM).is_file():
        return path
    inside = path.name in (CLAIM, MASKS)
    folder = path.parent if inside else path.parent.parent
    belongs = inside or path.parent.name == MASKS
    return folder if belongs and (folder / CLAIM).is_file() else None


def images_in(layers: Iterable[Layer]) -> list[Image]:
    """The image layers, without masks of conformask, whoever opened them."""
    return [layer for layer in layers if isinstance(layer, Image) and not is_mask(layer)]


def is_mask(layer: Layer) -> bool:
    """Whether conformask made the layer, or wrote the file that it was opened from."""
    path = layer.source.path
    return "masker" in layer.metadata or (path is not None and mask_folder(Path(path)) is not None)


def paired(
    layers: Sequence[Image], x: Image | None, y_hat: Image | None
) -> tuple[Image | None, Image | None]:
    """The input and output that were chosen; what was not is guessed, the input first and never one as both.

    An output is told by its name or folder, else by its place: the second layer.
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
