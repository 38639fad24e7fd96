"""The result of a release: the images that are released and held back, and what is promised of them."""

import math
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
    """The p-value of "this image, or its group, misses the threshold"; 1 if it is held back untested."""
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
class JudgedBatch:
    """A batch of images, and the settings with which it was judged, as released.json records them."""

    share: float
    each: bool
    fingerprint: str
    """The fingerprint of the masker."""
    pixels: tuple[str, ...]
    """For each image a hash by which it is recognised, sorted; "" for one that is constant throughout."""
    units: tuple[str, ...] | None = None
    """For each image, in the same order, a hash of all that its unit is judged by.

    None in records written before they were kept, whose `pixels` leave out images with a constant y_hat.
    """

    def judged_in(self, earlier: "JudgedBatch") -> int:
        """Return how many of the images were judged in an earlier batch, 0 if this batch repeats it."""
        before = {*earlier.pixels} - {""}
        units = self.units or ()
        common = [unit for pixels, unit in zip(self.pixels, units, strict=True) if pixels in before]
        settings = (self.share, self.each, self.fingerprint)
        repeats = settings == (earlier.share, earlier.each, earlier.fingerprint)
        if earlier.units is None:
            repeats &= self.each or self.pixels == earlier.pixels
        else:
            repeats &= {*common} <= {*earlier.units} if self.each else units == earlier.units
        return 0 if repeats else len(common)


@dataclass(frozen=True)
class JudgedBatches:
    """The contents of released.json."""

    batches: tuple[JudgedBatch, ...]


@dataclass(frozen=True)
class Release:
    """Results of `release`."""

    sentence: str
    """What is promised of the released images."""
    formula: str
    images: tuple[JudgedImage, ...]
    """All images, in the order in which they were given."""
    unit: str
    """What is released or held back as one: image, or the word for a group."""
    n_units: int
    """Number of new units."""
    n_calibration: int
    """Number of calibration units."""
    power: tuple[ReleasePower, ...]
    """Measurements at several shares; empty without the truth."""
    batch: JudgedBatch = field(repr=False)
    """The images and the settings with which they were judged, as a run remembers them."""

    @property
    def share(self) -> float:
        """The largest share of the released images that may miss the threshold, in expectation."""
        return self.batch.share

    @property
    def each(self) -> bool:
        """True if each image was judged by itself."""
        return self.batch.each

    @property
    def riskiest_first(self) -> list[JudgedImage]:
        """All images, the riskiest first."""
        return sorted(self.images, key=lambda image: -image.risk)

    @property
    def n_released(self) -> int:
        """Number of images released."""
        return sum(image.released for image in self.images)

    @property
    def counts(self) -> str:
        """How many images are released and held back; if none is released, why."""
        n = len(self.images)
        if not self.n_released:
            return none_released(self.share, self.unit, self.n_units, self.n_calibration, each=self.each)
        return f"Released: {self.n_released} of {n} images. Held back: {n - self.n_released}."

    @property
    def summary(self) -> str:
        """How many images are released, and what is promised of them."""
        return f"{self.counts} {self.sentence}"

    def columns(self, fingerprint: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return what a table of these images says of each, by name; refuse others, or another masker."""
        if fingerprint != self.batch.fingerprint or {image.name for image in self.images} != set(names):
            raise MismatchError(
                "released is about other images, or by another masker: pass release(masker, triplets) of the "
                "same two"
            )
        return {image.name: {"released": image.released, "p_value": image.p_value} for image in self.images}


def none_released(share: float, unit: str, n_units: int, n_calibration: int, *, each: bool = False) -> str:
    """Return why no unit, such as an image, is released of these."""
    if each:
        why, remedy = f"no {unit} of {n_units} has a p-value of at most {share:g}", "allow a larger share"
    else:
        least = math.ceil(n_units / (share * (n_calibration + 1)) - 1e-9)
        why = (
            f"with {n_calibration} calibration {unit}s and a share of {share:g}, at least {least} of "
            f"{n_units} {unit}s have to be released together, and not that many are likely to meet the "
            "threshold"
        )
        remedy = "allow a larger share, or calibrate with more"
    return f"Nothing is released: {why}; {remedy}."
