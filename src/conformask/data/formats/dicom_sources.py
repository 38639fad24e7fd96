"""The DICOM image under a mask, with headers that highdicom accepts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from conformask.data.formats.dicom_frames import DicomFrame
from conformask.data.formats.dicom_stack import SortedSlices, read_stack
from conformask.data.formats.format import SourceImage
from conformask.errors import ImageError

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
class Sources:
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

    @property
    def positions(self) -> list[Any]:
        """Position of each slice, three numbers in LPS."""
        return [(0.0, 0.0, 0.0) if frame.place is None else frame.place[0] for frame in self.frames]


def sources_of(hd: Any, under: SourceImage, shape: tuple[int, ...]) -> Sources:
    """Return the source of a mask (1, *space); `hd` is highdicom.

    Raises:
        ImageError: it is not DICOM, has another shape, or is one that a mask cannot refer to.
    """
    stack = stack_under(under)
    frames = stack.at(under.file_and_time[1])
    first = frames[0]
    _check(stack, frames, shape)
    images = list({frame.path: frame.data for frame in frames}.values())
    sources = Sources(
        frames,
        images,
        {each: images[0][each].value for each in PATIENT if each in images[0]},
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
    for frame in frames:
        _complete(frame, first, _step(stack), reference)
    if sources.has_frames:
        images[0].SharedFunctionalGroupsSequence = [_shared(first)]
    return sources


def stack_under(under: SourceImage) -> SortedSlices:
    """Return the image under a mask.

    Raises:
        ImageError: it is not DICOM.
    """
    file = under.file_and_time[0]
    if file is None or not (file.is_dir() or file.name.lower().endswith(".dcm")):
        raise ImageError(
            f"a DICOM mask must refer to a DICOM image, but the image under it is {file or 'an array'}: "
            "choose another suffix for the mask"
        )
    return read_stack(file, under.reading)


def _check(stack: SortedSlices, frames: Sequence[DicomFrame], shape: tuple[int, ...]) -> None:
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


def _step(stack: SortedSlices) -> float:
    """Return the step from slice to slice, in mm; for one slice its thickness, else 1."""
    if stack.is_volume and stack.geometry is not None:
        return stack.geometry.spacing[0]
    return stack.times[0][0].thickness or 1.0


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
