"""DICOM: a file of one slice or of frames, or a folder with one series; masks of them. Needs the extra dicom.

Slices are in the order of their positions, whatever their files are called. Values are those of the modality,
such as HU: rescaled by slope and intercept, or looked up. MONOCHROME1, which shows the smallest value white,
is inverted within its range, so that larger is brighter: a value becomes lowest + highest - value, the ends
of what the stored bits could hold, rescaled. Windows and VOI tables are for the eye and change nothing.
Colours become RGB.

Masks are for hospital viewers and archives (PACS), written by highdicom in the place of their source. They
carry the name, ID and study of the patient, as the source does: archives need them to file a mask.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from conformask.errors import ConformaskError, ImageError, failure_of_system, one_line
from conformask.extensions import required
from conformask.extras.formats.dicom_frames import (
    PARAMETRIC_MAP,
    DicomFrame,
    SortedSlices,
    is_series,
    plugin_of,
    quiet,
    read_stack,
)
from conformask.images.formats import (
    Blocks,
    DataRange,
    Format,
    Header,
    ImageHandle,
    Places,
    Shape,
    SourceImage,
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


ONE = 2**15
"""Integer that stands for 1: its inverse is exact in any float, so that 1 is read back as 1."""
LONGEST = 2**32 - 2
"""Most bytes of pixels that an uncompressed DICOM file can hold."""
NAME = "conformask"
DESCRIPTION = "conformask mask (1 = trusted)"
NOT_TRUSTED = "not trusted"
SERIES_NUMBER = 8000
"""Number of the series of a mask, far from those of a scanner."""
POSITION, LABEL, CONTENT = 0x00200032, 0x00209453, 0x00209111
"""Tags of ImagePositionPatient, FrameLabel and FrameContentSequence."""
REFERENCES = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
PATIENT = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
"""Attributes that highdicom copies, and refuses if they violate the standard, such as names of one word."""


@dataclass(frozen=True)
class MaskSources:
    """The slices under a mask."""

    frames: tuple[DicomFrame, ...]
    """Slices of the image, in order."""
    images: list[Any]
    """Headers of the files of the slices, each a Dataset."""
    patient: dict[str, Any]
    """Original values of PATIENT, which are emptied in `images`."""
    has_frames: bool
    """True if the image is one file of a multi-frame kind."""
    is_placed: bool
    """True if the slices have positions; a slice without one is put at the origin for now."""
    has_spacing: bool
    has_reference: bool
    """True if the slices name their frame of reference; if not, a new one is used."""


def write_dicom_blocks(path: Path, shape: Shape, blocks: Blocks, block: int, under: SourceImage) -> None:
    """Write a mask of one channel as a Parametric Map, assembled in memory first.

    A value v is stored as floor(v 2^15) in 16 bits, with a RealWorldValueMapping of slope 2^-15: never above
    v, and 1 is 1. Positions, orientation and pixel spacing are the source's; each frame refers to the slice
    under it. Each file has new UIDs, since an archive keeps the first of two files with the same.
    """
    hd = _highdicom(under)
    _check_size(shape, under)
    sources = _sources(hd, under, shape)
    mask = np.empty(shape, np.uint16)
    for places, values in blocks:
        mask[:, *places] = np.floor(np.clip(values, 0, 1).astype(np.float64) * ONE)
    from pydicom.sr.codedict import codes

    with _writing(under):
        mapping = hd.pm.RealWorldValueMapping(
            lut_label="trust",
            lut_explanation=DESCRIPTION,
            unit=codes.UCUM.NoUnits,
            value_range=(0, ONE),
            slope=1 / ONE,
            intercept=0.0,
        )
        image = hd.pm.ParametricMap(
            pixel_array=mask.reshape(-1, *shape[-2:]),
            real_world_value_mappings=[mapping],
            contains_recognizable_visual_features=False,
            voi_lut_transformations=[hd.VOILUTTransformation(window_center=ONE / 2, window_width=ONE)],
            content_label="TRUST",
            **_common(hd, sources, DESCRIPTION),
        )
        _finish(image, sources)
        image.save_as(path)


def write_segmentation(path: Path, mask: Array, under: SourceImage, promise: str) -> None:
    """Write where a mask (1, *space) or (*space), in [0, 1], is below 1 as a binary SEG of one segment.

    `promise` says what is promised for the pixels outside the segment; the file states it.

    The segment is called "not trusted". Its category is Spatial and Relational Concept (SCT 309825002), its
    type Imaging Region of Interest (NCIt C85402): it says where a network's output may be far from the truth,
    and calling that a lesion, a tissue or an artefact would be an unfounded claim about the patient.
    """
    hd = _highdicom(under)
    space = 3 if _stack_under(under).is_volume else 2
    shape = mask.shape if mask.ndim > space else (1, *mask.shape)
    _check_size(shape, under)
    sources = _sources(hd, under, shape)
    from pydicom.sr.codedict import codes

    with _writing(under):
        algorithm = hd.AlgorithmIdentificationSequence(
            NAME, codes.DCM.ArtificialIntelligence, version(NAME), parameters={"promise": promise}
        )
        segment = hd.seg.SegmentDescription(
            1,
            NOT_TRUSTED,
            codes.SCT.SpatialAndRelationalConcept,
            codes.NCIt.ImagingRegionOfInterest,
            hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm,
        )
        segment.SegmentDescription = f"Outside this segment: {promise}"
        image = hd.seg.Segmentation(
            pixel_array=(mask < 1).astype(np.uint8).reshape(-1, *shape[-2:]),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[segment],
            content_label="NOT_TRUSTED",
            omit_empty_frames=False,
            **_common(hd, sources, f"{NAME} {NOT_TRUSTED}"),
        )
        _finish(image, sources)
        image.save_as(path)


def _highdicom(under: SourceImage) -> Any:
    return required("highdicom", f"a DICOM mask over {under.path}", "dicom")


def _check_size(shape: Shape, under: SourceImage) -> None:
    """Raise if DICOM cannot hold such a mask."""
    name, size = f"a DICOM mask over {under.path}", 2 * prod(shape)
    if shape[0] != 1:
        raise ImageError(f"{name} has 1 channel, but this mask has {shape[0]}; OME-Zarr takes any number")
    check_memory(name, size)
    if size > LONGEST:
        raise ImageError(
            f"{name} would have {size} bytes, but a file can have only {LONGEST}; OME-Zarr can have more"
        )


def _common(hd: Any, sources: MaskSources, description: str) -> dict[str, Any]:
    """Return the attributes common to all DICOM objects that conformask writes."""
    common = {
        "source_images": sources.images,
        "series_instance_uid": hd.UID(),
        "series_number": SERIES_NUMBER,
        "series_description": description,
        "sop_instance_uid": hd.UID(),
        "instance_number": 1,
        "manufacturer": NAME,
        "manufacturer_model_name": NAME,
        "software_versions": version(NAME),
        "device_serial_number": version(NAME),
        "content_description": description,
    }
    if sources.has_frames:
        patient = hd.CoordinateSystemNames.PATIENT
        positions = [(0.0,) * 3 if frame.place is None else frame.place[0] for frame in sources.frames]
        common["plane_positions"] = [hd.PlanePositionSequence(patient, position) for position in positions]
    return common


@contextmanager
def _writing(under: SourceImage) -> Iterator[None]:
    """Raise errors of highdicom as ImageError."""
    try:
        with quiet():
            yield
    except (ConformaskError, OSError):
        raise
    except Exception as error:  # of highdicom and of pydicom, of many types
        raise ImageError(
            f"a DICOM mask over {under.path} cannot be written ({type(error).__name__}: {one_line(error)}); "
            "choose another suffix for the mask"
        ) from error


def _finish(image: Any, sources: MaskSources) -> None:
    """Restore what highdicom could not take."""
    for name, value in sources.patient.items():
        setattr(image, name, value)
    if sources.has_frames:  # refer only to the frames of the time point under the mask, if there are such
        numbers = {(frame.index or 0) + 1 for frame in sources.frames}
        for item in image.PerFrameFunctionalGroupsSequence:
            for derivation in item.get("DerivationImageSequence") or ():
                images = derivation.SourceImageSequence
                of_time = [image for image in images if image.get("ReferencedFrameNumber", 0) in numbers]
                derivation.SourceImageSequence = of_time or images
    if not sources.is_placed:
        _without_place(image, sources)


def _without_place(image: Any, sources: MaskSources) -> None:
    """Remove the origin that highdicom was given because there is no position; a label names the frame."""
    for item in image.DimensionIndexSequence:
        if item.DimensionIndexPointer == POSITION:
            item.DimensionIndexPointer, item.FunctionalGroupPointer = LABEL, CONTENT
            item.DimensionDescriptionLabel = "Frame Label"
    for item in image.PerFrameFunctionalGroupsSequence:
        del item.PlanePositionSequence
        item.FrameContentSequence[0].FrameLabel = "1"
    shared = image.SharedFunctionalGroupsSequence[0]
    del shared.PlaneOrientationSequence
    if not sources.has_spacing:
        del shared.PixelMeasuresSequence
    if not sources.has_reference:
        del image.FrameOfReferenceUID
        del image.PositionReferenceIndicator


def _sources(hd: Any, under: SourceImage, shape: tuple[int, ...]) -> MaskSources:
    """Return the source of a mask (1, *space); `hd` is highdicom."""
    stack = _stack_under(under)
    frames = stack.at(under.file_and_time[1])
    first = frames[0]
    _check_sources(stack, frames, shape)
    images = list({frame.path: frame.data for frame in frames}.values())
    sources = MaskSources(
        frames,
        images,
        {keyword: images[0][keyword].value for keyword in PATIENT if keyword in images[0]},
        bool(hd.utils.is_multiframe_image(images[0])),
        first.place is not None,
        first.pixel_spacing is not None,
        bool(images[0].get("FrameOfReferenceUID")),
    )
    if sources.has_frames and len(images) > 1:
        raise ImageError(
            f"{stack.path} consists of several multi-frame files, but a DICOM mask can refer to only one"
        )
    reference = images[0].FrameOfReferenceUID if sources.has_reference else hd.UID()
    # from slice to slice, in mm; for one slice its thickness
    step = stack.geometry.spacing[0] if stack.is_volume and stack.geometry else first.thickness or 1.0
    for frame in frames:
        _complete(frame, first, step, reference)
    if sources.has_frames:
        images[0].SharedFunctionalGroupsSequence = [_shared(first)]
    return sources


def _stack_under(under: SourceImage) -> SortedSlices:
    """Return the image under a mask."""
    file = under.file_and_time[0]
    if file is None or not (file.is_dir() or file.name.lower().endswith(".dcm")):
        raise ImageError(
            f"a DICOM mask must refer to a DICOM image, but the image under it is {file or 'an array'}: "
            "choose another suffix for the mask"
        )
    return read_stack(file, under.reading)


def _check_sources(stack: SortedSlices, frames: Sequence[DicomFrame], shape: tuple[int, ...]) -> None:
    first = frames[0]
    space = (len(frames), *first.size) if stack.is_volume else first.size
    if shape != (1, *space):
        raise ImageError(
            f"a DICOM mask over {stack.path} must have shape {(1, *space)} (C, *space), but this one "
            f"has {shape}"
        )
    if first.place is None and len(frames) > 1:
        raise ImageError(
            f"the frames of {stack.path} have no positions, which a DICOM mask requires: choose another "
            "suffix for the mask"
        )
    if first.place is not None and first.pixel_spacing is None:
        raise ImageError(f"{first.path} has positions but no PixelSpacing: a mask cannot be placed over it")
    for frame in frames:
        missing = [keyword for keyword in REFERENCES if not frame.data.get(keyword)]
        if missing:
            raise ImageError(f"{frame.path} has no {', '.join(missing)}: a DICOM mask cannot refer to it")


def _complete(frame: DicomFrame, first: DicomFrame, step: float, reference: str) -> None:
    """Complete a header with what highdicom reads, and give all slices exactly the same directions."""
    from pydicom.valuerep import DS

    image = frame.data
    for keyword in PATIENT:
        setattr(image, keyword, None)
    image.FrameOfReferenceUID = reference
    if frame.place is None:
        image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    else:
        image.ImageOrientationPatient = first.value("ImageOrientationPatient")
    if first.pixel_spacing is None:
        image.PixelSpacing = [1, 1]
    image.SpacingBetweenSlices = DS(step, auto_format=True)
    if frame.value("SliceThickness") is None:
        image.SliceThickness = DS(step, auto_format=True)


def _shared(first: DicomFrame) -> Any:
    """Return the functional groups shared by all frames, where highdicom looks for them."""
    from pydicom.dataset import Dataset

    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    for keyword in ("PixelSpacing", "SliceThickness"):
        setattr(measures, keyword, first.value(keyword))
    measures.SpacingBetweenSlices = first.data.SpacingBetweenSlices
    orientation.ImageOrientationPatient = first.value("ImageOrientationPatient")
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    return shared


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
