"""Real images: photographs of scikit-image, repeats under a microscope, and what lies in ../shared/data."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import skimage

from conformask.images.read import decode, read_image
from stacks import shared

NAMES = (
    "astronaut.png", "chelsea.png", "coffee.png", "ihc.png", "motorcycle_left.png", "rocket.jpg",
    "brick.png", "camera.png", "coins.png", "grass.png", "gravel.png", "moon.png",
)  # fmt: skip


def packaged_photographs():
    """Twelve photographs by name, uint8 (H, W, 3); grey ones are repeated to three channels."""
    read = {Path(name).stem: decode(Path(skimage.__file__).parent / "data" / name) for name in NAMES}
    return {
        name: np.broadcast_to(np.atleast_3d(array), (*array.shape[:2], 3)) for name, array in read.items()
    }


def repeats(kind):
    """The acquisitions of a field, each (1, 512, 512)."""
    return [read_image(path) for path in sorted(shared("fmd").glob(f"{kind}_noisy*.png"))]


def clean(kind):
    """The mean of 50 acquisitions."""
    return read_image(shared("fmd") / f"{kind}_clean.png")


SHARED = Path(__file__).parents[2] / "shared"
WEIGHTS = SHARED / "weights" / "torch"
PHOTOS, CELLS = 80, 12


@dataclass(frozen=True)
class Folders:
    """Images of both kinds."""

    photos: Path
    cells: Path


def some(kind, count, out):
    source = SHARED / "data" / kind
    if not source.is_dir():
        pytest.skip(f"no images at hand: {source} does not exist")
    out.mkdir(parents=True)
    for path in sorted(source.iterdir())[:count]:
        shutil.copy(path, out / path.name)
    return out
