"""Segmentations beside the masks of DICOM series, and what they promise."""

from conformask.data.formats import format_of
from conformask.data.formats.format import SegmentationWriter, at_time
from conformask.data.rows import Role
from conformask.data.triplets import Triplets
from conformask.errors import InvalidArgumentError
from conformask.masker.masker import Masker


def promise_of_cut(masker: Masker) -> str:
    """Return what is promised where only the pixels with mask 1 are shown.

    A monotone loss is never larger under a smaller mask: the promise of grey masks covers their pixels of 1.
    """
    if masker.card.is_grey and not masker.loss.monotone:
        return f"NOT PROMISED: grey masks, cut at 1; {masker.card.loss.name} may be larger for the rest"
    return masker.sentence


def check_seg(triplets: Triplets, mask_geometry: Role) -> None:
    """Raise for images without segmentations.

    Raises:
        InvalidArgumentError: names the first.
    """
    others = [
        name
        for index, name in enumerate(triplets.names)
        if segmentation_writer(triplets, index, mask_geometry) is None
    ]
    if others:
        raise InvalidArgumentError(
            f"dicom_seg writes a DICOM SEG beside the mask of a DICOM series, but {others[0]!r} is not one: "
            "leave out dicom_seg (--dicom-seg)"
        )


def segmentation_writer(triplets: Triplets, index: int, mask_geometry: Role) -> SegmentationWriter | None:
    """Return the writer of segmentations over the file under a mask; None where its type has none."""
    file = triplets.file(index, mask_geometry)
    kind = None if file is None else format_of(at_time(file)[0])
    return None if kind is None else kind.write_segmentation
