"""The contents of calibration.json: the promise, the images it rests on, and those it holds for."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from conformask.conformal.promise import WORDS, Promise
from conformask.names import Level
from conformask.records.domain import Domain
from conformask.records.loss import LossTerms, with_loss
from conformask.records.reference import Reference
from conformask.records.sentence import sentence_of
from conformask.storage.as_json import Json
from conformask.storage.typed import from_dict

CALIBRATION = "calibration.json"
"""The file of a run folder that holds its card."""
HASHED_AS = {"per_category": "within", "image_of_new_group": "member"}
"""Terms and units that have another name in fingerprints, and in records up to conformask 0.2."""
EVERY_IMAGE = "every image"
"""Description of the images that closed masks hide, whatever they show."""
EVERY_CALIBRATION_IMAGE = "every calibration image"
"""Description of the images that are hidden where the score of a new one may be low enough to show some."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The terms of a promise, and the masks that keep it."""

    loss: LossTerms
    threshold: float
    promise: Promise
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
    patches: int | None = None
    """The least number of pixels of a connected part of a mask; None where parts have any size."""
    start: float = 0.0
    """The lambda from which on masks open, for a loss relative to what is shown; below, all is hidden."""
    level: Level = "one"
    """Whether all images have one lambda, or each its own in proportion to its level."""
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
    """Hashes of truths and groups of the calibration images."""
    seen: tuple[str, ...] = ()
    """Hashes of y_hat of the calibration images, and of the selection images that were given with them."""
    hidden: float | None = None
    """Mean mask size on the calibration images; None where unknown, as in runs of conformask 0.2."""
    repeats: Literal[0, 1, 2] = 0
    """The number of acquisitions with noise in the place of the truth; 0 where y was the truth."""
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
    def reference(self) -> Reference:
        """What y of the calibration images was, with the noise model where the loss used one."""
        used = self.repeats == 1 and self.loss.subtracts_noise
        return Reference(self.repeats, self.noise_model if used else None)

    @property
    def is_grey(self) -> bool:
        """True if masks may have values between 0 and 1."""
        return bool(self.family["name"] != "binary")

    @property
    def masks(self) -> str:
        """The kind of masks, in words: binary, or grey with the name of their family; and of their parts."""
        parts = "" if self.patches is None else f" in {self.parts}"
        return (f"grey ({self.family_name})" if self.is_grey else self.family_name) + parts

    @property
    def parts(self) -> str:
        """The parts of which masks consist, in words."""
        return f"connected parts of at least {self.patches} pixels"

    @property
    def family_name(self) -> str:
        """The name of the family of masks, in words."""
        return str(self.family["name"]).replace("_", " ")

    @property
    def sentence(self) -> str:
        """The promise in one English sentence."""
        return sentence_of(self)

    @property
    def formula(self) -> str:
        """The promise as a formula, with the images that it is about and rests on."""
        images, new = f"the {self.n_calibration} calibration images", "new images"
        if self.n_groups is not None:
            images += f" in {self.n_groups} groups"
        if self.promise.unit == "group":
            images, new = (
                f"the {self.n_groups} calibration groups of {self.n_calibration} images",
                "new groups",
            )
        named = self.promise.named
        whom = f"{self.population or named(new)}{',' * bool(self.population)} like {named(images)}"
        exploratory = ", exploratory" if self.exploratory else ""
        hides = "" if self.hides is None else f", kept only by hiding {self.hides} completely"
        by = f", from {self.reference.text}" if self.repeats else ""
        return f"{named(self.claim)} for {whom} ({self.promise.guarantee}{exploratory}{by}){hides}"

    @classmethod
    def from_json(cls, record: Mapping[str, Json], path: Path) -> "CalibrationCard":
        """Read the content of calibration.json.

        Raises:
            MismatchError: the record is damaged.
        """
        return from_dict(cls, with_promise(record), path)

    def to_json(self) -> dict[str, Json]:
        """Return the content of calibration.json."""
        promise = {name: value for name, value in vars(self.promise).items() if name != "weight"}
        return {**vars(self), "promise": promise}

    @property
    def hashed(self) -> dict[str, Json]:
        """The fields that a masker's fingerprint hashes: those that differ from their defaults.

        Loss and promise are flat, as in conformask 0.2, so that its maskers keep their fingerprints.
        """
        terms = self.to_json()["promise"] | {"unit": HASHED_AS.get(str(self.promise.unit), self.promise.unit)}
        promise = {HASHED_AS.get(name, name): value for name, value in terms.items()}
        stated = {**vars(self), **vars(self.loss), **promise}
        defaults = {field.name: field.default for field in (*fields(self), *fields(LossTerms))}
        defaults |= {"unit": None, "share": None, "within": False}
        names = stated.keys() - {"loss", "promise", "units", *WORDS}
        return {name: stated[name] for name in names if stated[name] != defaults.get(name, MISSING)}


def with_promise(record: Mapping[str, Json]) -> dict[str, Json]:
    """Return a record that holds promise and loss; up to conformask 0.2 it held their terms itself."""
    stored_as = {field.name: HASHED_AS.get(field.name, field.name) for field in fields(Promise)}
    terms = {name: record[stored] for name, stored in stored_as.items() if stored in record}
    if terms.get("unit") == HASHED_AS["image_of_new_group"]:
        terms["unit"] = "image_of_new_group"
    return {"promise": terms, **with_loss(record)}


def now() -> str:
    """Return the time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
