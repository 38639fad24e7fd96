"""Reading and cutting images, for tasks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from maskbench.tasks import Made
from maskbench.triplets import Floats

SIDE = 64
FLAT = 0.01
"""A truth with a smaller standard deviation is nearly constant."""


def read(path: Path, mode: str) -> Floats:
    """Read an image file, in [0, 1]."""
    return np.asarray(Image.open(path).convert(mode), np.float32) / 255


def photographs(data: Path, part: int, parts: int, side: int = SIDE) -> Iterator[tuple[str, Floats]]:
    """Yield every `parts`-th photograph from `part` on: the middle at half its size, (side, side, 3)."""
    for path in sorted((data / "photos").glob("*.jpg"))[part::parts]:
        image = Image.open(path).convert("RGB").reduce(2)
        yield path.stem, middle(np.asarray(image, np.float32) / 255, side)


def middle(image: Floats, side: int = SIDE) -> Floats:
    """Return the middle of an image, (side, side, ...)."""
    top, left = ((length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def tiles(*images: Floats, side: int = SIDE, step: int | None = None) -> Iterator[tuple[Floats, ...]]:
    """Yield tiles of images, of the last image's pixels; the others may be a whole fraction of its size."""
    height, width = images[-1].shape[:2]
    for top in range(0, height - side + 1, step or side):
        for left in range(0, width - side + 1, step or side):
            yield tuple(
                image[top // by : (top + side) // by, left // by : (left + side) // by]
                for image in images
                for by in [height // image.shape[0]]
            )


def cut(group: str, x: Floats, y_hat: Floats, y: Floats, cue: Floats, step: int = SIDE) -> Made:
    """Yield rows of a task: tiles with the network's map, but none whose truth is nearly constant."""
    for small, made, truth, spread in tiles(x, y_hat, y, cue, step=step):
        if truth.std(axis=(0, 1)).mean() >= FLAT:
            yield group, small, made, truth, {"network": spread}


def sections(data: Path) -> Iterator[tuple[str, Floats, np.random.Generator]]:
    """Yield sections of an electron microscope, 384 x 384, each with its own random numbers."""
    for stack in ("stack1", "stack2"):
        for place, plane in enumerate(tifffile.imread(data / "em" / f"{stack}.tif")):
            yield f"{stack}-{place}", plane / np.float32(255), np.random.default_rng(place)
