"""The contents of calibration.json: the promise, the images it rests on, and those it holds for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from conformask.records.domain import Domain
from conformask.records.loss import LossTerms
from conformask.storage.as_json import Json

EVERY_IMAGE = "every image"
"""Description of the images that closed masks hide, whatever they show."""


@dataclass(frozen=True, kw_only=True)
class Terms(LossTerms):
    """The terms of a promise, and the masks that keep it."""

    threshold: float
    confidence: float | None
    """The promised share of images; None for a promise about a mean."""
    delta: float | None
    """Share of calibration sets for which the promise may fail; None where it averages over them."""
    guarantee: str
    claim: str
    """The promise as a formula."""
    family: Mapping[str, Json]
    rule: Mapping[str, Json]
    exact: bool
    """True if critical lambdas were solved exactly; otherwise on a grid, which is conservative."""
    exploratory: bool
    """True if the terms or the images were changed after a calibration on some of the same images."""
    thresholds: tuple[float, ...] | None
    """Thresholds declared before the calibration, for a simultaneous promise."""
    unit: str | None = None
    """The unit counted: image, group or member; None is the guarantee's own."""
    share: float | None = None
    """The share of a group's images that must meet the threshold; None is all, or another unit."""
    within: bool = False
    """True if each category gets the promise by itself, in addition to what the guarantee says."""
    hides: str | None = None
    """The images that must be hidden completely, whatever they show, to keep the promise; None if none."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The calibration images."""

    n_calibration: int
    n_groups: int | None
    """Number of groups, where the promise counts groups."""
    n_effective: float | None
    """Effective sample size, where images are weighted."""
    weights: tuple[float, float] | None = None
    """The smallest and largest weight of the images, where they have any."""
    calibrated: str
    """The time of the calibration, in UTC."""
    calibrated_on: tuple[str, ...]
    """Hashes of pixels and groups of the calibration images."""
    hidden: float | None = None
    """Mean mask size on the calibration images; None where unknown, as in runs of conformask 0.2."""
    own_grid: bool = False
    """True if the grid was made from the calibration images; promises that need a fixed one are refused."""


@dataclass(frozen=True, kw_only=True)
class CalibrationCard(Domain, Sample, Terms):
    """The contents of calibration.json: the terms, the sample and the domain of a promise."""

    image_errors: Mapping[str, Json] | None = None
    """The regression of the unmasked loss on features of the score, for bounds per image."""
    code: Mapping[str, str] = field(default_factory=dict)
    """Hashes of the scorer and of other code from the user, by argument name."""

    @property
    def n_units(self) -> int:
        """The number of units that the promise counts."""
        return self.n_calibration if self.n_groups is None else self.n_groups

    @property
    def promise(self) -> str:
        """The promise in one sentence."""
        images, new = f"the {self.n_calibration} calibration images", "new images"
        if self.n_groups is not None:
            images += f" in {self.n_groups} groups"
        if self.unit == "group":
            images, new = (
                f"the {self.n_groups} calibration groups of {self.n_calibration} images",
                "new groups",
            )
        whom = f"{self.population}, like {images}" if self.population else f"{new} like {images}"
        exploratory = ", exploratory" if self.exploratory else ""
        hides = "" if self.hides is None else f", kept only by hiding {self.hides} completely"
        return f"{self.claim} for {whom} ({self.guarantee}{exploratory}){hides}"


def now() -> str:
    """Return the time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
