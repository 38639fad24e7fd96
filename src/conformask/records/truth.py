"""What a loss takes y for: the truth, or the clean image behind a reference with noise."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from conformask.records.reading import Reference
from conformask.records.record import Array, Json


@dataclass(frozen=True)
class Truth:
    """The truth, of which nothing has to be known; others override what differs."""

    subtracts_noise: ClassVar[bool] = False
    """True if the noise of the reference is subtracted and allowed for."""
    measured: ClassVar[tuple[str, ...]] = ()
    """The names of the numbers of the loss that images show where they are not given."""

    @property
    def images_left_out(self) -> str:
        """The share of images for which an allowance for noise may be too small, in words; or empty."""
        return ""

    def words(self, reference: Reference) -> tuple[str, str]:
        """Return what a noisy reference is taken for, and by which theorem; both are empty for a truth."""
        return ("the noisy reference", "") if reference.is_noisy else ("", "")

    def check_reference(self, reference: Reference) -> None:
        """Refuse noisy references by which the loss cannot be computed."""

    def numbers(self, images: Iterable[Any], reference: Reference) -> Mapping[str, Json]:
        """Return the numbers of the loss that these triplets, whose y is this reference, show of all."""
        return {}

    def check_measures(self, measures: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse images by what was measured of them, by the kind of layer and the name of the image."""

    def warnings(self, unmasked: Array) -> Iterable[str]:
        """Return what may spoil a promise, by the losses of the calibration images without a mask."""
        return ()


TRUTH = Truth()
