"""Masks and images as NIfTI, with the header of the image that they are about."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from conformask.data.formats.format import Blocks, Shape, SourceImage
from conformask.data.memory import DiskArray
from conformask.plugins.nifti.reading import DESCRIPTION, SUFFIXES, is_compressed, load_nifti, nibabel_for
from conformask.records.geometry import UNITS, Geometry
from conformask.storage.as_arrays import Array

LEVELS = 2**15
"""Number of steps from 0 to 1 in a stored mask; floats hold multiples of 1 / LEVELS exactly."""
LONGEST = 2**15 - 1
"""Most pixels along an axis in NIfTI-1."""


def write_nifti_blocks(path: Path, shape: Shape, blocks: Blocks, block: int, under: SourceImage) -> None:
    """Write a mask in steps of 1 / LEVELS, or labels, with the header of its image, using a temporary file.

    One channel is (X, Y, Z), several are a vector (X, Y, Z, 1, C), a time series is (X, Y, Z, T[, C]).

    Raises:
        MissingFileError: the extra nifti is not installed.
    """
    header = _header(path, shape, under)
    header.set_data_dtype(np.uint16)
    header.set_slope_inter(1 if under.is_labels else 1 / LEVELS, 0)
    header["descrip"] = "" if under.is_labels else DESCRIPTION
    header["cal_min"], header["cal_max"] = 0, 0 if under.is_labels else 1
    dtype = np.dtype(np.uint16).newbyteorder(header.endianness)
    mask = DiskArray(shape, dtype, path.parent, reserve=True)
    for places, values in blocks:
        mask[:, *places] = values if under.is_labels else np.floor(np.clip(values, 0, 1) * LEVELS)
    with _writing(path) as file:
        header.write_to(file)
        for plane in np.ndindex(shape[:-2]):
            file.write(mask.mapped()[plane].tobytes())


def write_nifti(path: Path, image: Array, under: SourceImage) -> None:
    """Write an image (C, *space) as float32, with the header of the image that it was made from.

    Raises:
        MissingFileError: the extra nifti is not installed.
    """
    header = _header(path, image.shape, under)
    header.set_data_dtype(np.float32)
    header.set_slope_inter(1, 0)
    header["descrip"], header["cal_min"], header["cal_max"] = "", 0, 0
    with _writing(path) as file:
        header.write_to(file)
        file.write(image.astype(np.dtype(np.float32).newbyteorder(header.endianness)).tobytes())


@contextmanager
def _writing(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Open a file for writing, compressed if its name says so, without a time stamp."""
    with path.open("wb") as file:
        if not is_compressed(path):
            yield file
            return
        with gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as compressed:
            yield compressed


def _header(path: Path, shape: Shape, under: SourceImage) -> Any:
    """Return the header of the image under the mask, adapted to this shape; a new one if it is not NIfTI."""
    nibabel = nibabel_for(path)
    file, _ = under.file_and_time
    if file is not None and file.name.lower().endswith(SUFFIXES):
        image = load_nifti(file)
        # without extensions, such as DICOM headers, which are about the image
        header = type(image.header)(image.header.binaryblock, image.header.endianness, check=False)
        axes = min(len(image.shape), 3)
    else:
        new = nibabel.Nifti2Header if max(shape) > LONGEST else nibabel.Nifti1Header
        header, axes = new(), 3
        _place(header, under.geometry)
    times, sides = (shape[1:2], shape[:1:-1]) if under.is_film else ((), shape[:0:-1])
    if axes == 3 or shape[0] > 1 or under.is_film:
        sides = (*sides, 1)[:3]
    steps, start = header["pixdim"][:5].copy(), header["toffset"].copy()
    header.set_data_shape((*sides, *times) if shape[0] == 1 else (*sides, *(times or (1,)), shape[0]))
    header.set_intent("none" if shape[0] == 1 else "vector")
    # an aux_file may name a lookup table of the image, which is not the mask's
    header["aux_file"], header["toffset"], header["vox_offset"] = "", start if times else 0, 0
    header["pixdim"][:5], header["pixdim"][5:] = steps, 1
    if not times:
        header["pixdim"][4] = 1
    return header


def _place(header: Any, geometry: Geometry | None) -> None:
    """Write spacing and affine to a new header."""
    if geometry is None:
        return
    steps = [step * UNITS[geometry.unit] / UNITS["mm"] for step in reversed(geometry.spacing)]
    header["pixdim"][1 : 1 + len(steps)] = steps
    header.set_xyzt_units("mm")
    if geometry.affine is not None:
        header.set_sform(np.array(geometry.affine), code=1)
