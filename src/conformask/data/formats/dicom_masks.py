"""Masks as DICOM, for hospital viewers and archives (PACS), written by highdicom in their source's place.

They carry the name, ID and study of the patient, as the source does: archives need them to file a mask.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from conformask.data.formats.dicom_frames import quiet
from conformask.data.formats.dicom_sources import Sources, sources_of, stack_under
from conformask.data.formats.format import Blocks, Shape, SourceImage
from conformask.data.limits import check_memory
from conformask.errors import ConformaskError, ImageError, InvalidArgumentError, MissingFileError, one_line
from conformask.types import Array

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


def write_dicom_blocks(path: Path, shape: Shape, blocks: Blocks, block: int, under: SourceImage) -> None:
    """Write a mask of one channel as a Parametric Map, assembled in memory first.

    A value v is stored as floor(v 2^15) in 16 bits, with a RealWorldValueMapping of slope 2^-15: never above
    v, and 1 is 1. Positions, orientation and pixel spacing are the source's; each frame refers to the slice
    under it. Each file has new UIDs, since an archive keeps the first of two files with the same.

    Raises:
        MissingFileError: the extra dicom is not installed.
        ImageError: more channels, a source that is not DICOM, or one that a mask cannot refer to.
    """
    hd = _highdicom(under)
    sources = sources_of(hd, under, _checked(shape, under))
    whole = np.empty(shape, np.uint16)
    for places, values in blocks:
        whole[:, *places] = np.floor(np.clip(values, 0, 1).astype(np.float64) * ONE)
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
            pixel_array=whole.reshape(-1, *shape[-2:]),
            real_world_value_mappings=[mapping],
            contains_recognizable_visual_features=False,
            voi_lut_transformations=[hd.VOILUTTransformation(window_center=ONE / 2, window_width=ONE)],
            content_label="TRUST",
            **_common(hd, sources, DESCRIPTION),
        )
        _finish(image, sources)
        image.save_as(path)


def write_segmentation(path: Path, mask: Array, under: SourceImage, at: float = 0.5) -> None:
    """Write where a mask (1, *space) or (*space), in [0, 1], is below `at` as a binary SEG of one segment.

    The segment is called "not trusted". Its category is Spatial and Relational Concept (SCT 309825002), its
    type Imaging Region of Interest (NCIt C85402): it says where a network's output may be far from the truth,
    and calling that a lesion, a tissue or an artefact would be an unfounded claim about the patient.

    Raises:
        MissingFileError: the extra dicom is not installed.
        InvalidArgumentError: `at` is not in (0, 1].
        ImageError: more channels, a source that is not DICOM, or one that a mask cannot refer to.
    """
    if not 0 < at <= 1:
        raise InvalidArgumentError(f"at is {at}; give a mask value in (0, 1], such as 0.5")
    hd = _highdicom(under)
    space = 3 if stack_under(under).is_volume else 2
    shape = mask.shape if mask.ndim > space else (1, *mask.shape)
    sources = sources_of(hd, under, _checked(shape, under))
    from pydicom.sr.codedict import codes

    with _writing(under):
        algorithm = hd.AlgorithmIdentificationSequence(
            NAME, codes.DCM.ArtificialIntelligence, version(NAME), parameters={"mask below": f"{at:g}"}
        )
        segment = hd.seg.SegmentDescription(
            1,
            NOT_TRUSTED,
            codes.SCT.SpatialAndRelationalConcept,
            codes.NCIt.ImagingRegionOfInterest,
            hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm,
        )
        image = hd.seg.Segmentation(
            pixel_array=(mask < at).astype(np.uint8).reshape(-1, *shape[-2:]),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[segment],
            content_label="NOT_TRUSTED",
            omit_empty_frames=False,
            **_common(hd, sources, f"{NAME} {NOT_TRUSTED} (mask below {at:g})"),
        )
        _finish(image, sources)
        image.save_as(path)


def _highdicom(under: SourceImage) -> Any:
    try:
        import highdicom
    except ImportError as error:
        raise MissingFileError(
            f"a DICOM mask over {under.path} needs highdicom: pip install 'conformask[dicom]'"
        ) from error
    return highdicom


def _checked(shape: Shape, under: SourceImage) -> Shape:
    """Return the shape, or raise if DICOM cannot hold such a mask."""
    name, size = f"a DICOM mask over {under.path}", 2 * prod(shape)
    if shape[0] != 1:
        raise ImageError(f"{name} has 1 channel, but this mask has {shape[0]}; OME-Zarr takes any number")
    check_memory(name, size)
    if size > LONGEST:
        raise ImageError(
            f"{name} would have {size} bytes, but a file can have only {LONGEST}; OME-Zarr can have more"
        )
    return shape


def _common(hd: Any, sources: Sources, description: str) -> dict[str, Any]:
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
        places = [hd.PlanePositionSequence(patient, position) for position in sources.positions]
        common["plane_positions"] = places
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


def _finish(image: Any, sources: Sources) -> None:
    """Restore what highdicom could not take."""
    for name, value in sources.patient.items():
        setattr(image, name, value)
    if sources.has_frames:
        _refer_to_one_time(image, {(frame.index or 0) + 1 for frame in sources.frames})
    if not sources.is_placed:
        _without_place(image, sources)


def _refer_to_one_time(image: Any, numbers: set[int]) -> None:
    """Keep references only to the frames of the time point that the mask lies over, if there are such."""
    for item in image.PerFrameFunctionalGroupsSequence:
        for derivation in item.get("DerivationImageSequence") or ():
            images = derivation.SourceImageSequence
            here = [each for each in images if each.get("ReferencedFrameNumber", 0) in numbers]
            derivation.SourceImageSequence = here or images


def _without_place(image: Any, sources: Sources) -> None:
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
