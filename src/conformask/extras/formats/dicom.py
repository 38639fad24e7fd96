"""DICOM: a file of one slice or of frames, or a folder with one series. Needs the extra dicom.

Slices are in the order of their positions, whatever their files are called. Values are those of the modality,
such as HU: rescaled by slope and intercept, or looked up. MONOCHROME1, which shows the smallest value white,
is inverted within its range, so that larger is brighter: a value becomes lowest + highest - value, the ends
of what the stored bits could hold, rescaled. Windows and VOI tables are for the eye and change nothing.
Colours become RGB.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from conformask.errors import ImageError, failure_of_system, one_line
from conformask.extras.formats.dicom_frames import (
    PARAMETRIC_MAP,
    DicomFrame,
    SortedSlices,
    is_series,
    plugin_of,
    quiet,
    read_stack,
)
from conformask.extras.formats.dicom_masks import write_dicom_blocks, write_segmentation
from conformask.images.formats import (
    DataRange,
    Format,
    Header,
    ImageHandle,
    Places,
    bits_of,
    check_memory,
    range_of_bits,
)
from conformask.records.reading import Reading
from conformask.records.record import Array

PALETTE = "PALETTE COLOR"
INVERTED = "MONOCHROME1"
PHYSICAL = ("CT",)
"""Modalities whose values have a unit, even if slope and intercept change nothing."""


@dataclass(frozen=True)
class ModalityTransform:
    """Conversion of the stored numbers of a slice to values."""

    stored: np.dtype[Any]
    low: float
    """Lower end of the range of the stored numbers; `high` is the upper one."""
    high: float
    slope: float
    intercept: float
    table: int | None
    """Bits of the values of a lookup table that replaces slope and intercept; None without one."""
    inverted: bool

    @property
    def is_identity(self) -> bool:
        """True if the values are the stored numbers, perhaps inverted."""
        return (self.slope, self.intercept) == (1.0, 0.0) and self.table is None

    @property
    def ends(self) -> DataRange:
        """Lowest and highest possible value."""
        if self.table is not None:
            return range_of_bits(self.table)
        return self.slope * self.low + self.intercept, self.slope * self.high + self.intercept


def open_dicom(path: Path, reading: Reading, time: int | None) -> AbstractContextManager[ImageHandle]:
    """Open the image of a file or of a folder with one series, as `read_stack` finds it."""
    stack = read_stack(path, reading)
    frames = stack.at(time)
    header, dtype = _header(stack, frames), _dtype(frames)

    def window(places: Places) -> Array:
        slices = frames[places[0]] if stack.is_volume else frames
        plane = places[1:] if stack.is_volume else places
        pixels = _pixels(path, slices, dtype)[:, *plane]
        return pixels if stack.is_volume else pixels[0]

    return nullcontext(ImageHandle(header, lambda: window(header.everywhere), lambda: window))


def times_of_dicom(path: Path, reading: Reading) -> int | None:
    """Return the number of time points, if the given axes have T; else None."""
    return len(read_stack(path, reading).times) if "T" in (reading.axes or "") else None


def _header(stack: SortedSlices, frames: Sequence[DicomFrame]) -> Header:
    first = frames[0]
    space = (len(frames), *first.size) if stack.is_volume else first.size
    dtype, transform = _dtype(frames), _transform(first)
    return Header(
        first.channels,
        space,
        bits_of(dtype),
        _data_range(frames, dtype),
        stack.geometry,
        first.patient,
        sum(transform.ends) if transform.inverted else None,
    )


def _data_range(frames: Sequence[DicomFrame], dtype: np.dtype[Any]) -> DataRange | None:
    """Return the range by the bits of unsigned numbers that are not rescaled; (0, 1) for maps of floats."""
    data, bits = frames[0].data, max(_bits_stored(frame.data) for frame in frames)
    if data.PhotometricInterpretation == PALETTE:
        return range_of_bits(8 * dtype.itemsize)
    if str(data.get("SOPClassUID")) == PARAMETRIC_MAP or _holds_floats(data):
        return (0.0, 1.0) if dtype.kind == "f" else None
    are_stored = dtype.kind == "u" and bits <= 16 and all(_transform(frame).is_identity for frame in frames)
    return range_of_bits(bits) if are_stored and data.get("Modality") not in PHYSICAL else None


def _dtype(frames: Sequence[DicomFrame]) -> np.dtype[Any]:
    """Return the type for all slices' values: integers if slopes and intercepts are whole, else floats."""
    data, transforms = frames[0].data, [_transform(frame) for frame in frames]
    if data.PhotometricInterpretation == PALETTE:
        return np.dtype(np.uint16 if data.RedPaletteColorLookupTableDescriptor[2] > 8 else np.uint8)
    if all(transform.is_identity for transform in transforms):
        return np.result_type(*(transform.stored for transform in transforms))
    ends = [end for transform in transforms for end in transform.ends]
    whole = all(transform.slope.is_integer() and transform.intercept.is_integer() for transform in transforms)
    if whole and not _holds_floats(data):
        for bits in (16, 32):
            if -(2.0 ** (bits - 1)) <= min(ends) and max(ends) < 2.0 ** (bits - 1):
                return np.dtype(f"i{bits // 8}")
    # float32 holds any 16 bits exactly
    stored = {transform.stored for transform in transforms}
    wide = any(dtype.itemsize > 2 and dtype != np.float32 for dtype in stored)
    return np.dtype(np.float64 if wide else np.float32)


def _transform(frame: DicomFrame) -> ModalityTransform:
    data = frame.data
    is_map = str(data.get("SOPClassUID")) == PARAMETRIC_MAP and frame.value("RealWorldValueSlope") is not None
    kind = "RealWorldValue" if is_map else "Rescale"
    slope, intercept = frame.value(f"{kind}Slope"), frame.value(f"{kind}Intercept")
    scaling = 1.0 if slope is None else float(slope), float(intercept or 0)
    tables = data.get("ModalityLUTSequence")
    inverted = bool(data.PhotometricInterpretation == INVERTED)
    conversion = *scaling, int(tables[0].LUTDescriptor[2]) if tables else None, inverted
    allocated, bits = int(data.BitsAllocated), _bits_stored(data)
    if _holds_floats(data):
        return ModalityTransform(np.dtype(f"f{allocated // 8}"), 0.0, 1.0, *conversion)
    signed = bool(data.get("PixelRepresentation"))
    low = -(2.0 ** (bits - 1)) if signed else 0.0
    stored = np.dtype(f"{'i' if signed else 'u'}{max(1, allocated // 8)}")
    return ModalityTransform(stored, low, low + 2.0**bits - 1, *conversion)


def _bits_stored(data: Any) -> int:
    return int(data.get("BitsStored") or data.BitsAllocated)


def _holds_floats(data: Any) -> bool:
    """Return whether pixels are floats, which have no PixelRepresentation; the pixels are not read yet."""
    return "PixelRepresentation" not in data and data.BitsAllocated in (32, 64)


def _pixels(path: Path, frames: Sequence[DicomFrame], dtype: np.dtype[Any]) -> Array:
    """Decode slices, (n, H, W) or (n, H, W, 3)."""
    first = frames[0]
    shape = (len(frames), *first.size, *((first.channels,) if first.channels > 1 else ()))
    check_memory(f"{path}, {len(frames)} slices,", dtype.itemsize * prod(shape))
    pixels = np.empty(shape, dtype)
    with quiet():
        for index, (frame, stored) in enumerate(zip(frames, _stored(frames), strict=True)):
            pixels[index] = _values(frame, stored)
    return pixels


def _stored(frames: Sequence[DicomFrame]) -> Iterator[Array]:
    """Yield the stored numbers of each slice, colours as RGB; open each file once for frames in a row."""
    from pydicom.pixels import iter_pixels

    for file, of_file in groupby(frames, key=lambda frame: frame.path):
        slices = tuple(of_file)
        indices = [frame.index for frame in slices if frame.index is not None]
        try:
            yield from iter_pixels(file, indices=indices or None)
        except Exception as error:  # of pydicom and of each codec
            if failure_of_system(error) is not None:
                raise
            raise ImageError(_failure_text(slices[0], error)) from error


def _failure_text(frame: DicomFrame, error: Exception) -> str:
    syntax = frame.data.file_meta.get("TransferSyntaxUID")
    lacks_codec = "missing dependencies" in str(error) or isinstance(error, NotImplementedError)
    if syntax is None or not lacks_codec:
        cause = one_line(error)
        return f"{frame.path}: its pixels cannot be decoded ({cause}): it may be truncated; copy it again"
    packages = plugin_of(str(syntax))
    advice = f"pip install {packages}" if packages else "write it again without compression"
    return (
        f"{frame.path}: its pixels are compressed as {syntax.name}, which no installed package decodes: "
        f"{advice}"
    )


def _values(frame: DicomFrame, stored: Array) -> Array:
    """Return the values of a slice, in float64 where they are not the stored numbers."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut

    if frame.data.PhotometricInterpretation == PALETTE:
        return np.asarray(apply_color_lut(stored, frame.data))
    transform, values = _transform(frame), stored
    if transform.table is not None:
        values = np.asarray(apply_modality_lut(stored, frame.data))
    elif not transform.is_identity:
        values = stored.astype(np.float64) * transform.slope + transform.intercept
    return sum(transform.ends) - values.astype(np.float64) if transform.inverted else values


DICOM = Format(
    open_dicom,
    write_segmentation=write_segmentation,
    write_blocks=write_dicom_blocks,
    volumes=True,
    mask_suffix=".dcm",
    times=times_of_dicom,
)
DICOM_SERIES = Format(
    open_dicom,
    write_segmentation=write_segmentation,
    mask_suffix=".dcm",
    is_folder=True,
    recognises=is_series,
    times=times_of_dicom,
)
