"""The photographs of the demonstration: they come with scikit-image's wheel, without a download."""

from importlib.resources import files
from pathlib import Path

import numpy as np

from conformask.data.decoding import decode
from conformask.types import Array

COLOUR = ("astronaut.png", "chelsea.png", "coffee.png", "ihc.png", "motorcycle_left.png", "rocket.jpg")
GREY = ("brick.png", "camera.png", "coins.png", "grass.png", "gravel.png", "moon.png")


def packaged_photographs() -> dict[str, Array]:
    """Return twelve real photographs by name, uint8 (H, W, 3), from 300 to 741 pixels per side.

    Six are in colour, six grey and repeated to three channels. Left out of scikit-image's images: drawings,
    text and masks, the right view of the motorcycle (nearly the left one), and the retina and the Hubble
    field, which are mostly black.
    """
    folder = Path(str(files("skimage"))) / "data"
    return {Path(name).stem: _three_channels(decode(folder / name)) for name in COLOUR + GREY}


def _three_channels(array: Array) -> Array:
    return array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)
