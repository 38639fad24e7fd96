"""NIfTI files opened by nibabel, which reads only the header. Needs the extra nifti."""

import gzip
import struct
from math import isfinite
from pathlib import Path
from typing import Any

from conformask.data.limits import check_memory
from conformask.errors import ImageError, MissingFileError

SUFFIXES = (".nii.gz", ".nii")
HEADER = 540
"""Bytes that state where the voxels begin; `OFFSETS` has sizeof_hdr, the type and place of vox_offset."""
MOST_BEFORE = 2**20
"""Number of bytes before the voxels that any file may have."""
OFFSETS = ((348, "f", 108), (540, "q", 168))
DESCRIPTION = "conformask mask, 1 = trusted"
"""Description in the header by which masks are recognised."""


def nibabel_for(path: Path) -> Any:
    """Import nibabel.

    Raises:
        MissingFileError: the extra nifti is not installed, which `path` needs.
    """
    try:
        import nibabel
    except ImportError as error:
        raise MissingFileError(f"{path} needs nibabel: pip install 'conformask[nifti]'") from error
    return nibabel


def loaded(path: Path) -> Any:
    """Return nibabel's image, of which only the header is read.

    Raises:
        MissingFileError: the extra nifti is not installed.
        ImageError: the file does not hold an image.
    """
    nibabel = nibabel_for(path)
    _check_extensions(path)
    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):
        raise ImageError(f"{path} is not an image but {type(image).__name__}; save its volume as NIfTI")
    return image


def _check_extensions(path: Path) -> None:
    """Raise if the content before the voxels, which is read into memory, is larger than an image may be."""
    with gzip.open(path) if is_compressed(path) else path.open("rb") as file:
        header = file.read(HEADER)
    for order in "<>":
        for size, form, at in OFFSETS:
            if len(header) == HEADER and struct.unpack_from(f"{order}i", header)[0] == size:
                (offset,) = struct.unpack_from(f"{order}{form}", header, at)
                if isfinite(offset) and offset > MOST_BEFORE:
                    check_memory(f"the content of {path} before its voxels", int(offset))


def is_mask(image: Any) -> bool:
    """Return whether nibabel's image is a mask of conformask."""
    return bool(image.header["descrip"].item() == DESCRIPTION.encode())


def is_compressed(path: Path) -> bool:
    """Return whether a file is compressed by gzip, by its suffix."""
    return path.suffix.lower() == ".gz"
