"""Masks as DICOM, for hospital viewers and archives (PACS), written by highdicom in their source's place.

They carry the name, ID and study of the patient, as the source does: archives need them to file a mask.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from conformask.errors import ConformaskError, ImageError, one_line
from conformask.extensions import required
from conformask.extras.formats.dicom_frames import DicomFrame, SortedSlices, quiet, read_stack
from conformask.images.formats import Blocks, Shape, SourceImage, check_memory
from conformask.records.record import Array

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
