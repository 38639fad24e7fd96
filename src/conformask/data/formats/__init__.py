"""Every file type that can be read, one file each; what a type can do stands in its `Format`."""

from pathlib import Path

from conformask.data.formats.format import Format
from conformask.data.formats.npy import NPY
from conformask.data.formats.ome_zarr import OME_ZARR
from conformask.data.formats.png_jpeg import JPEG, PNG
from conformask.data.formats.tiff import TIFF

FORMATS = (PNG, JPEG, TIFF, NPY, OME_ZARR)
BY_SUFFIX = {suffix: each for each in FORMATS for suffix in each.suffixes}
IMAGE_SUFFIXES = tuple(BY_SUFFIX)


def format_of(path: Path) -> Format | None:
    """The type of a file, by the end of its name; None for others."""
    return BY_SUFFIX.get(path.suffix.lower())
