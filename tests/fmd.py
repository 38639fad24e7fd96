"""Repeats of fields under a microscope, from the folder fmd of ../shared/data."""

from conformask.images.read import read_image
from stacks import shared


def repeats(kind):
    """The acquisitions of a field, each (1, 512, 512)."""
    return [read_image(path) for path in sorted(shared("fmd").glob(f"{kind}_noisy*.png"))]


def clean(kind):
    """The mean of 50 acquisitions."""
    return read_image(shared("fmd") / f"{kind}_clean.png")
