"""NIfTI-1 and NIfTI-2: images, and masks with the header of their image. Needs the extra nifti.

A NIfTI array is (X, Y, Z, times, channels); an image here is (Z, Y, X) or (Z, Y, X, C), not turned otherwise.
"""

import gzip
import re
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from math import inf, isfinite, prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from conformask.errors import ImageError
from conformask.extensions import required
from conformask.images.formats import (
    Blocks,
    DataRange,
    DiskArray,
    Format,
    Header,
    ImageHandle,
    Places,
    Shape,
    SourceImage,
    Window,
    bits_of,
    check_memory,
    range_of,
    range_of_bits,
    time_point,
)
from conformask.records.reading import UNITS, Geometry, Reading, affine_of
from conformask.records.record import Array

SUFFIXES = (".nii.gz", ".nii")
HEADER = 540
"""Bytes that state where the voxels begin."""
OFFSETS = ((348, "f", 108), (540, "q", 168))
"""Size of the header of NIfTI-1 and of NIfTI-2, and the type and place of vox_offset in it."""
MOST_BEFORE = 2**20
"""Number of bytes before the voxels that any file may have."""
DESCRIPTION = "conformask mask, 1 = trusted"
"""Description in the header by which masks are recognised."""
ORDER = re.compile("XYZ?(TC?|CT?)?")
"""Pattern of the axes that a NIfTI array may have, in its order."""
ADVICE = "XYZ is a volume, XYZT has an image for each time point, all of one group, and XYZC has channels"
SPACE_UNITS = {1: "m", 2: "mm", 3: "\u00b5m"}
"""Units by the lower three bits of xyzt_units; a file that states none is in mm."""
FLAT = 1e-5
"""Singular value, for axes of length 1, below which an affine is flat but for the rounding of float32."""
CHUNK = 2**22
"""Number of bytes that are decompressed at once."""


def load_nifti(path: Path) -> Any:
    """Return nibabel's image, of which only the header is read."""
    nibabel = required("nibabel", path, "nifti")
    _check_extensions(path)
    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):
        raise ImageError(f"{path} is not an image but {type(image).__name__}; save its volume as NIfTI")
    return image


def _check_extensions(path: Path) -> None:
    """Raise if the content before the voxels, which nibabel reads, is larger than an image may be."""
    with gzip.open(path) if is_compressed(path) else path.open("rb") as file:
        header = file.read(HEADER)
    for order in "<>":
        for size, kind, place in OFFSETS:
            if len(header) == HEADER and struct.unpack_from(f"{order}i", header)[0] == size:
                (offset,) = struct.unpack_from(f"{order}{kind}", header, place)
                if isfinite(offset) and offset > MOST_BEFORE:
                    check_memory(f"the content of {path} before its voxels", int(offset))


def _is_mask(image: Any) -> bool:
    """Return whether nibabel's image is a mask of conformask."""
    return bool(image.header["descrip"].item() == DESCRIPTION.encode())


def is_compressed(path: Path) -> bool:
    """Return whether a file is compressed by gzip, by its suffix."""
    return path.suffix.lower() == ".gz"


@dataclass(frozen=True)
class NiftiImage:
    """The array of a NIfTI file, in its own order."""

    path: Path
    image: Any
    """nibabel's image."""
    axes: str
    """Letter of XYZTC for each axis of the array; a dot for one of length 1 that is left out."""
    time: int
    """Time point, where there is an axis of time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the stored array, (X, Y, ...)."""
        return tuple(map(int, self.image.shape))

    @property
    def sides(self) -> dict[str, int]:
        """Length of each axis."""
        return dict(zip(self.axes, self.shape, strict=True))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored type."""
        dtype: np.dtype[Any] = self.image.dataobj.dtype
        return dtype

    @property
    def offset(self) -> int:
        """Byte at which the voxels begin."""
        return int(self.image.dataobj.offset)

    @property
    def end(self) -> int:
        """Byte after the last voxel."""
        return self.offset + prod(self.shape) * self.dtype.itemsize

    @property
    def is_colour(self) -> bool:
        """True if each value is a colour, RGB or RGBA."""
        return self.dtype.names is not None

    @property
    def scaling(self) -> tuple[float, float] | None:
        """Slope and intercept from stored numbers to values; None where the stored numbers are the values."""
        slope, intercept = float(self.image.dataobj.slope), float(self.image.dataobj.inter)
        return None if self.is_colour or (slope, intercept) == (1, 0) else (slope, intercept)

    def header(self) -> Header:
        """Return the header of the image."""
        sides = self.sides
        space = tuple(sides[axis] for axis in "ZYX" if axis in sides)
        channels = 3 if self.is_colour else sides.get("C", 1)
        bits = 16 if self.scaling else bits_of(np.dtype(np.uint8) if self.is_colour else self.dtype)
        return Header(channels, space, bits, self._data_range(), self._geometry(len(space)))

    def _data_range(self) -> DataRange | None:
        """Return the range; None for scaled numbers, except in masks, since slopes differ between files."""
        if self.is_colour:
            return range_of_bits(8)
        if _is_mask(self.image):
            return 0.0, 1.0
        data_range = range_of(self.dtype, str(self.path))
        return None if self.scaling else data_range

    def _geometry(self, axes: int) -> Geometry | None:
        header = self.image.header
        unit = SPACE_UNITS.get(int(header["xyzt_units"]) & 7, "mm")
        # without either code nibabel makes up an affine from the spacing, which says nothing of a patient
        if not (header["sform_code"] > 0 or header["qform_code"] > 0):
            spacing = tuple(float(step) for step in header["pixdim"][axes:0:-1])
            return Geometry(spacing, unit) if all(0 < step < inf for step in spacing) else None
        affine = self.image.affine.copy()
        spacing = self._steps(affine[:3, :axes])
        affine[:3] *= 1 if unit == "mm" else UNITS[unit] / UNITS["mm"]
        return Geometry(spacing, unit, affine_of(affine))

    def _steps(self, directions: Array) -> tuple[float, ...]:
        """Return the length of each step of an affine, the last axis first; those of pixdim may differ."""
        steps = np.linalg.norm(directions, axis=0)
        usable = np.isfinite(self.image.affine).all() and steps.min() > 0
        if not usable or np.linalg.matrix_rank(directions / steps, FLAT) < len(steps):
            form = "sform" if self.image.header["sform_code"] > 0 else "qform"
            raise ImageError(
                f"{self.path}: its {form} gives its voxels no place: a step is 0 or not finite, or its axes "
                f"lie in one plane. Write it again with a correct one, or with {form}_code 0"
            )
        return tuple(float(f"{step:.6g}") for step in reversed(steps))  # the header has float32

    def window(self, array: Array, places: Places, time: int) -> Array:
        """Return the values of a window of the stored array, (*space) or (*space, C)."""
        spans = dict(zip("ZYX"[-len(places) :], places, strict=True)) | {"C": slice(None)}
        stored = array[tuple(spans.get(axis, time if axis == "T" else 0) for axis in self.axes)]
        axes = [axis for axis in self.axes if axis in spans]
        return self._values(stored.transpose([axes.index(axis) for axis in "ZYXC" if axis in axes]))

    def _values(self, stored: Array) -> Array:
        if self.is_colour:
            return np.stack([stored[colour] for colour in "RGB"], axis=-1)
        if self.scaling is None:
            return stored
        slope, intercept = self.scaling
        values = np.empty(stored.shape, np.promote_types(self.dtype, np.float32))
        # plane by plane, so that float64 is never in memory for the whole volume
        for plane, numbers in zip(values, stored, strict=True):
            plane[...] = numbers.astype(np.float64) * slope + intercept
        return values


def open_nifti(path: Path, reading: Reading, time: int | None) -> AbstractContextManager[ImageHandle]:
    """Open the image of a file, perhaps at one time point."""
    image = load_nifti(path)
    axes, count = _axes_and_times(path, image, reading)
    stored = NiftiImage(path, image, axes, time_point(path, count, time, "XYZT"))
    header = stored.header()
    _check_extent(stored)
    return nullcontext(
        ImageHandle(header, lambda: _in_memory(stored)(header.everywhere), lambda: _window(stored))
    )


def times_of_nifti(path: Path, reading: Reading) -> int | None:
    """Return the length of the axis T, if the given axes, or those of a mask, have one; else None."""
    return _axes_and_times(path, load_nifti(path), reading)[1]


def _axes_and_times(path: Path, image: Any, reading: Reading) -> tuple[str, int | None]:
    """Return the axes of nibabel's image, and its number of time points; None without an axis of time.

    A mask of a time series has the axes with which it was written, unless others are given.
    """
    is_film = _is_mask(image) and max(image.shape[3:4], default=1) > 1
    stated = "XYZTC"[: len(image.shape)] if reading.axes is None and is_film else reading.axes
    axes = _axes(path, image.shape, stated)
    if "T" not in (stated or ""):
        return axes, None
    return axes, int(image.shape[axes.index("T")]) if "T" in axes else 1


def _axes(path: Path, shape: tuple[int, ...], stated: str | None) -> str:
    """Return a letter of XYZTC for each axis of an array, or a dot where it is left out."""
    length = max((place + 1 for place, side in enumerate(shape) if side != 1), default=0)
    sides = shape[: max(length, 2)]
    if len(sides) < 2 or min(sides) < 1:
        raise ImageError(f"{path} has shape {shape}; an image has X and Y, of at least one pixel each")
    if stated is not None and not ORDER.fullmatch(stated):
        raise ImageError(
            f"{path}: axes {stated} are not in the order of a NIfTI file, X, Y, Z, times and channels; "
            f"{ADVICE}"
        )
    if stated is None and len(sides) > 3 and not (len(sides) == 5 and sides[3] == 1):
        letters = "XYZT or XYZC" if len(sides) == 4 else "XYZTC"
        raise ImageError(f"{path} has shape {sides}: name its axes, --axes {letters}; {ADVICE}")
    letters = stated or ("XYZC" if len(sides) == 5 else "XYZ")
    places = list(range(len(sides)))
    for place, axis in ((3, "T"), (2, "Z")):  # NIfTI leaves a place for them where they are missing
        if len(places) > max(len(letters), place) and sides[place] == 1 and axis not in letters:
            places.remove(place)
    if len(places) > len(letters):
        raise ImageError(
            f"{path} has shape {tuple(shape)}, which does not match the given axes {stated}; {ADVICE}"
        )
    axes = ["."] * len(shape)
    for place, axis in zip(places, letters, strict=False):  # letters left over are axes of length 1
        axes[place] = axis if axis in "XY" or sides[place] > 1 else "."
    return "".join(axes)


def _check_extent(stored: NiftiImage) -> None:
    """Raise for voxels that would begin within the header, or end after a file that is not compressed."""
    header_size = int(stored.image.header.single_vox_offset)
    if stored.offset < header_size:
        raise ImageError(
            f"{stored.path} states that its voxels begin at byte {stored.offset}, within its header of "
            f"{header_size} bytes: write it again, with vox_offset"
        )
    size = stored.path.stat().st_size
    if size < stored.end and not is_compressed(stored.path):
        raise ImageError(
            f"{stored.path} has only {size} of {stored.end} bytes: it is truncated; copy it again"
        )


def _window(stored: NiftiImage) -> Window:
    """Return a reader of windows of a file, which is mapped or, if compressed, decompressed once."""
    if is_compressed(stored.path):
        return _in_memory(stored)
    mapped = np.memmap(stored.path, stored.dtype, "r", stored.offset, stored.shape, order="F")
    return lambda places: stored.window(mapped, places, stored.time)


def _in_memory(stored: NiftiImage) -> Window:
    """Return a reader of windows in memory, which holds only the time point if that is contiguous."""
    shape, axis = stored.shape, stored.axes.find("T")
    # in Fortran's order a time point is contiguous if no longer axis follows
    contiguous = axis >= 0 and prod(shape[axis + 1 :]) == 1
    part = (*shape[:axis], 1, *shape[axis + 1 :]) if contiguous else shape
    size = prod(part) * stored.dtype.itemsize
    check_memory(f"{stored.path}, {part} of {stored.dtype},", size)
    skipped, time = (stored.time * size, 0) if contiguous else (0, stored.time)
    compressed = is_compressed(stored.path)
    with gzip.open(stored.path) if compressed else stored.path.open("rb") as file:
        file.seek(stored.offset + skipped)
        content = file.read(size)
        if len(content) < size:
            raise EOFError(f"{len(content)} bytes of {size}")
        while compressed and file.read(CHUNK):  # to its end, where gzip checks its checksum
            if file.tell() > stored.end + CHUNK:
                raise ImageError(
                    f"{stored.path} continues after its last voxel: it is damaged; write it again"
                )
    array = np.frombuffer(content, stored.dtype).reshape(part, order="F")
    return lambda places: stored.window(array, places, time)


LEVELS = 2**15
"""Number of steps from 0 to 1 in a stored mask; floats hold multiples of 1 / LEVELS exactly."""
LONGEST = 2**15 - 1
"""Most pixels along an axis in NIfTI-1."""


def write_nifti_blocks(path: Path, shape: Shape, blocks: Blocks, block: int, under: SourceImage) -> None:
    """Write a mask in steps of 1 / LEVELS, or labels, with the header of its image, using a temporary file.

    One channel is (X, Y, Z), several are a vector (X, Y, Z, 1, C), a time series is (X, Y, Z, T[, C]).
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
    """Write an image (C, *space) as float32, with the header of the image that it was made from."""
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
    nibabel = required("nibabel", path, "nifti")
    file, _ = under.file_and_time
    if file is not None and file.name.lower().endswith(SUFFIXES):
        image = load_nifti(file)
        # without extensions, such as DICOM headers, which are about the image
        header = type(image.header)(image.header.binaryblock, image.header.endianness, check=False)
        axes = min(len(image.shape), 3)
    else:
        new = nibabel.Nifti2Header if max(shape) > LONGEST else nibabel.Nifti1Header
        header, axes = new(), 3
        if under.geometry is not None:
            in_mm = UNITS[under.geometry.unit] / UNITS["mm"]
            steps = [step * in_mm for step in reversed(under.geometry.spacing)]
            header["pixdim"][1 : 1 + len(steps)] = steps
            header.set_xyzt_units("mm")
            if under.geometry.affine is not None:
                header.set_sform(np.array(under.geometry.affine), code=1)
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


NIFTI = Format(
    open_nifti,
    write_over=write_nifti,
    write_blocks=write_nifti_blocks,
    any_channels=True,
    volumes=True,
    films=True,
    mask_suffix=None,
    times=times_of_nifti,
)
