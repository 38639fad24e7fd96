"""All file types that can be read, each in its own module, with its abilities in its `Format`."""

from pathlib import Path

from conformask.data.formats.dicom import DICOM, DICOM_SERIES
from conformask.data.formats.dicom_frames import is_series
from conformask.data.formats.format import Format
from conformask.data.formats.nifti import NIFTI
from conformask.data.formats.npy import NPY, NPZ
from conformask.data.formats.ome_zarr import OME_ZARR
from conformask.data.formats.png_jpeg import JPEG, PNG
from conformask.data.formats.tiff import TIFF

FORMATS = (PNG, JPEG, TIFF, NPY, NPZ, OME_ZARR, NIFTI, DICOM, DICOM_SERIES)
BY_SUFFIX = {suffix: kind for kind in FORMATS for suffix in kind.suffixes}
IMAGE_SUFFIXES = tuple(BY_SUFFIX)


def format_of(path: Path) -> Format | None:
    """Return the type of a file, by the end of its name, or of a folder of DICOM files; None for others."""
    kind = BY_SUFFIX.get(known_suffix(path))
    return DICOM_SERIES if not (kind and kind.is_folder) and is_series(path) else kind


def known_suffix(path: Path) -> str:
    """Return the end of a name by which its type is known, such as .nii.gz; else its last part."""
    name = path.name.lower()
    return next((suffix for suffix in BY_SUFFIX if name.endswith(suffix)), path.suffix.lower())


def suffix_of(path: Path) -> str:
    """Return .ome.tif for NAME.ome.tif, .png for NAME.png, in lower case; "" for a folder of DICOM files."""
    if format_of(path) is DICOM_SERIES:
        return ""
    name, suffix = path.name.lower(), known_suffix(path)
    stem = name[: len(name) - len(suffix)]
    return f".ome{suffix}" if stem.endswith(".ome") and stem != ".ome" else suffix
