"""The result of a release: the images that are released and held back, and what is promised of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from conformask.errors import MismatchError


@dataclass(frozen=True)
class JudgedImage:
    """An image that is released or held back."""

    name: str
    released: bool
    p_value: float
    """The p-value of "this image, or its group, misses the threshold"."""
    risk: float
    """The share of the calibration images that look less likely to miss the threshold, in [0, 1]."""
    hidden: float
    """The share that its mask hides, of the region that the promise is about or of the whole image."""
    reasons: tuple[str, ...]
    """Why it is held back, the most unusual first; empty for a released image."""
    within: bool | None
    """True if its loss meets the threshold; None without the truth."""

    @property
    def verdict(self) -> str:
        """Whether it is released, and the first reason if it is not."""
        return "released" if self.released else f"held back: {self.reasons[0]}"


@dataclass(frozen=True)
class ReleasePower:
    """What one share releases of images with truth."""

    share: float
    released: int
    """Number of units released."""
    failing: int
    """Number of these that miss the threshold."""
    of_good: float
    """Share of the units within the threshold that are released; NaN where there are none."""


@dataclass(frozen=True)
class Release:
    """Results of `release`."""

    sentence: str
    """What is promised of the released images."""
    formula: str
    share: float
    each: bool
    images: tuple[JudgedImage, ...]
    """All images, the riskiest first."""
    unit: str
    """What is released or held back as one: image, or the word for a group."""
    n_units: int
    """Number of new units."""
    n_calibration: int
    """Number of calibration units."""
    power: tuple[ReleasePower, ...]
    """Measurements at several shares; empty without the truth."""
    fingerprint: str = field(repr=False)
    """The fingerprint of the masker."""
    pixels: tuple[str, ...] = field(repr=False)
    """Hashes of the pixels of each y_hat that is not constant, sorted, by which images are recognised."""

    @property
    def n_released(self) -> int:
        """Number of images released."""
        return sum(image.released for image in self.images)

    @property
    def summary(self) -> str:
        """How many images are released, and what is promised of them."""
        return f"Released: {self.n_released} of {len(self.images)} images. {self.sentence}"

    def columns(self, fingerprint: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return what a table of these images says of each, by name.

        Raises:
            MismatchError: the release is of other images, or by the masker with another fingerprint.
        """
        if fingerprint != self.fingerprint or {image.name for image in self.images} != set(names):
            raise MismatchError(
                "released is about other images, or by another masker: pass release(masker, triplets) of the "
                "same two"
            )
        return {image.name: {"released": image.released, "p_value": image.p_value} for image in self.images}
