"""A NIfTI file by nibabel, which reads only its header. Needs the extra nifti."""

from pathlib import Path
from typing import Any

from conformask.errors import ImageError, MissingFileError

SUFFIXES = (".nii.gz", ".nii")
DESCRIPTION = "conformask mask, 1 = trusted"
"""By which masks are known."""


def nibabel_for(path: Path) -> Any:
    """The library.

    Raises:
        MissingFileError: the extra nifti is not installed, which `path` needs.
    """
    try:
        import nibabel
    except ImportError as error:
        raise MissingFileError(f"{path} needs nibabel: pip install 'conformask[nifti]'") from error
    return nibabel


def loaded(path: Path) -> Any:
    """nibabel's image, of which only the header is read.

    Raises:
        MissingFileError: the extra nifti is not installed.
        ImageError: the file holds something else.
    """
    nibabel = nibabel_for(path)
    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):
        raise ImageError(f"{path} is not an image but {type(image).__name__}; save its volume as NIfTI")
    return image


def is_mask(image: Any) -> bool:
    """Whether a file is a mask of conformask."""
    return bool(image.header["descrip"].item() == DESCRIPTION.encode())


def is_compressed(path: Path) -> bool:
    """Whether a file is packed by gzip, as its name says."""
    return path.suffix.lower() == ".gz"
