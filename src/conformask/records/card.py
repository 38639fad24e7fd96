"""calibration.json: what is promised, on which images it rests, and for which it holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from conformask.records.domain import Domain
from conformask.records.loss import LossTerms
from conformask.storage.as_json import Json

EVERY_IMAGE = "every image"
"""What masks hide that are closed whatever they look at."""


@dataclass(frozen=True, kw_only=True)
class Terms(LossTerms):
    """What is promised, and by which masks it is kept."""

    threshold: float
    confidence: float | None
    """None for a promise about a mean."""
    delta: float | None
    """Share of calibration sets for which the promise may fail; None where it averages over them."""
    guarantee: str
    claim: str
    """What is promised, as a formula."""
    family: Mapping[str, Json]
    rule: Mapping[str, Json]
    exact: bool
    """Critical lambdas solved exactly; otherwise on a grid, which is conservative."""
    exploratory: bool
    """The terms, or which images they rest on, were changed after a calibration on the same images."""
    thresholds: tuple[float, ...] | None
    """Declared before the calibration, for a simultaneous promise."""
    unit: str | None = None
    """image, group or member; None is that of the guarantee."""
    share: float | None = None
    """Of a group's images that have to be fine; None is all, or another unit."""
    within: bool = False
    """In each category by itself, beyond what the guarantee says."""
    hides: str | None = None
    """Which images are hidden completely whatever they look like, as nothing less keeps the promise."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The calibration images."""

    n_calibration: int
    n_groups: int | None
    """Where the promise counts groups."""
    n_effective: float | None
    """Effective sample size, where images are weighted."""
    weights: tuple[float, float] | None = None
    """Their smallest and largest weight, where they have any."""
    calibrated: str
    """When, in UTC."""
    calibrated_on: tuple[str, ...]
    """Their pixel hashes."""
    hidden: float | None = None
    """Mean mask size on them; None where it is not known, as in runs of conformask 0.2."""
    own_grid: bool = False
    """Whether the grid of the curves was made from them, and no promise that takes a fixed one is left."""


@dataclass(frozen=True, kw_only=True)
class CalibrationCard(Domain, Sample, Terms):
    """calibration.json: the terms, the sample and the domain of a promise."""

    image_errors: Mapping[str, Json] | None = None
    """How the loss without a mask follows what the score looks like, for the bound of each image."""
    code: Mapping[str, str] = field(default_factory=dict)
    """Hashes of the scorer and of what else a user brought as code, by the name of its argument."""

    @property
    def n_units(self) -> int:
        """How many of what the promise counts."""
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
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
