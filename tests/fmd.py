"""Repeats of fields under a microscope, from the folder fmd of ../shared/data."""

import numpy as np

from conformask.images.read import read_image
from stacks import shared


def repeats(kind: str) -> list[np.ndarray]:
    """The acquisitions of a field, each (1, 512, 512)."""
    return [read_image(path) for path in sorted(shared("fmd").glob(f"{kind}_noisy*.png"))]


def clean(kind: str) -> np.ndarray:
    """The mean of 50 acquisitions."""
    return read_image(shared("fmd") / f"{kind}_clean.png")
