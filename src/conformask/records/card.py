"""The contents of calibration.json: the promise, the images it rests on, and those it holds for.

At the end: the promise in one English sentence, which says exactly what is computed, and its numbers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from conformask.errors import MismatchError
from conformask.promises.axes import LogLinear
from conformask.promises.promise import WORDS, Promise
from conformask.promises.rules import ConstantLambda, Rule
from conformask.records.loss import StatedLoss
from conformask.records.names import Level
from conformask.records.numbers import UNIT, Values, rounded_share, written
from conformask.records.reading import (
    MOST_CHANNELS,
    OTHER,
    PLAIN,
    Caveat,
    Geometry,
    Network,
    Reading,
    Reference,
    Size,
    among,
    covered,
    size_text,
    values_of,
)
from conformask.records.record import Array, Json, from_dict, hash_of, hash_of_arrays, vars_but
from conformask.records.upgrade import SPELT, as_hashed, with_loss, with_promise

if TYPE_CHECKING:
    from conformask.records.evaluation import CategoryCoverage

KINDS = {2: "planes", 3: "volumes"}
"""Images in words, by the number of their axes beside channels."""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The domain of a promise: images like the calibration images."""

    read: Reading = PLAIN
    """The settings with which the calibration images were read; see `reading`."""
    channels: int
    sizes: tuple[Size, ...]
    population: str | None
    """The images that the promise holds for, where the data say so."""
    tiles: tuple[int | Size, int | Size] | None = None
    """Sides and overlap of the tiles by which whole images were scored; None where each was one pass."""
    network: Network | None = None
    """The network that made y_hat; None where unknown."""
    geometry: Geometry | None = None
    """Spacing and orientation of the first image, where its file has them; not its position."""
    range_of_x: tuple[float, float] | None = None
    """The least and the largest value of the first x, as stated by a file, a type or a person."""
    range_of_y_hat: tuple[float, float] | None = None
    """The least and the largest value of the first y_hat, as stated by a file, a type or a person."""
    clipped: float = 0.0
    """Mean share of the values of an image, the largest of x, y_hat and y, that were clipped to the range."""
    cues_made: str | None = None
    """How the maps from which the score is read were made, such as "samples,8"; None if not by conformask."""
    turned: tuple[str, ...] = ()
    """Roles (x, y_hat) whose files were MONOCHROME1, least value brightest, and were inverted."""

    @classmethod
    def from_json(cls, record: Mapping[str, Json], path: Path) -> Self:
        """Read what `to_json` returned."""
        return from_dict(cls, {"read": record, **record}, path)

    def to_json(self) -> dict[str, Json]:
        """Return it as JSON, with the settings of reading among its own."""
        return {**self.read.kept, **vars_but(self, "read")}

    @property
    def reading(self) -> Reading:
        """The settings for new images; up to 0.2 the stated range was that of x of 8 bits, too."""
        of_all = self.read.stated_range if self.range_of_x in (None, self.read.data_range) else None
        return replace(self.read, x_range=self.read.x_range or of_all)

    @property
    def values(self) -> Values | None:
        """The values of y_hat that become 0 and 1; None where they are not known."""
        return values_of(self.read, self.range_of_y_hat)

    def reading_of(self, role: str, dtype: np.dtype[Any]) -> Reading:
        """Return how a user's array is read as x or y_hat: like the images of the calibration.

        Where each image has its own range, it is still to be settled (see `Reading.settled`).

        Floats are in [0, 1], or in the range that was stated. Integers have the range that was used, such as
        0 to 4095 for a DICOM file with 12 bits. If the calibration's files were inverted, arrays are taken to
        hold what such files hold and are inverted as well; floats in [0, 1] are not: larger is brighter.
        """
        reading = self.reading.of(role)
        if reading.has_own_range:
            return reading
        used = self.range_of_x if role == "x" else self.range_of_y_hat
        turned = role in self.turned
        if reading.keeps_own_range and not turned:  # a range that was stated was not for x
            reading = replace(reading, data_range=None)
        if reading.data_range is not None and turned:
            return replace(reading, data_range=used or reading.data_range, inverted=True)
        if reading.data_range is not None or used is None or dtype.kind not in "ui":
            return reading
        if used == UNIT and dtype == np.uint8:
            return reading
        if used == UNIT or not _holds(dtype, used):
            raise MismatchError(
                f"{role} contains {dtype}, but the calibration images had values from {used[0]:g} to "
                f"{used[1]:g}: give arrays of the same type and range, or floats in [0, 1]"
            )
        return replace(reading, data_range=used, inverted=turned)

    def check_shape(self, shape: Sequence[int], where: str = "") -> None:
        """Refuse volumes for planes, or other channels, by (C, *space); `where` prefixes the message."""
        channels, *space = shape
        if len(space) != len(self.sizes[0]):
            here, there = (KINDS.get(n, f"images of {n} axes") for n in (len(space), len(self.sizes[0])))
            raise MismatchError(
                f"{where}the promise is about {there}, but these are {here} of {size_text(tuple(space))} "
                f"pixels: calibrate on {here} for a promise about them"
            )
        if channels != self.channels:
            plural = "s" * (self.channels != 1)
            raise MismatchError(
                f"{where}this masker takes y_hat with {self.channels} channel{plural}, not {channels}"
            )

    def check_axes(self, role: str, shape: tuple[int, ...]) -> None:
        """Refuse an array of a volume for a promise about planes, and the reverse, by its shape."""
        axes, n, space = self.read.axes, len(shape), len(self.sizes[0])
        if axes is not None and n != len(axes):
            taken = f"arrays with the axes {axes}"
        elif axes is None and space == 2 and (n > 3 or (n == 3 and shape[-1] > MOST_CHANNELS)):
            taken = "(H, W) or (H, W, C); give the planes of a volume one by one, or calibrate on volumes"
        else:
            return
        raise MismatchError(f"{role} has shape {shape}, but the promise is about {KINDS[space]}: {taken}")

    def other_spacing(self, geometry: Geometry | None) -> str | None:
        """Return by which spacing an image differs from the calibration's; None up to a tenth, or unknown."""
        known = self.geometry
        if known is None or geometry is None or not geometry.is_finer_or_coarser(known):
            return None
        return (
            f"a spacing of {geometry.text}: the promise was calibrated on {known.text} and may not hold for "
            "others"
        )

    def other_range(self, role: str, stored: tuple[float, float] | None) -> str | None:
        """Return by which stored values x or y_hat differs from the calibration's; None where it does not.

        Up to a tenth of the range counts as the same, and images in [0, 1] have no other one.
        """
        known = self.range_of_x if role == "x" else self.range_of_y_hat
        if known is None or stored is None or UNIT in (known, stored):
            return None
        if max(abs(np.subtract(known, stored))) <= (OTHER - 1) * (known[1] - known[0]):
            return None
        return (
            f"{role} with values from {stored[0]:g} to {stored[1]:g}: the promise was calibrated on "
            f"{known[0]:g} to {known[1]:g} and may not hold for others"
        )

    def check_cues(self, made: str | None) -> None:
        """Check that maps beside y_hat were made as those of the calibration, where both are known."""
        if self.cues_made is not None and made not in (None, self.cues_made):
            raise MismatchError(
                f"the promise is about maps made by --cues {self.cues_made}, but these were made by {made}: "
                "make them in the same way, or calibrate again"
            )

    @property
    def unknown_network(self) -> str | None:
        """A caveat for an output of an unknown network; None where the promise names no network."""
        if self.network is None:
            return None
        return (
            f"The promise is about outputs of {self.network.name}; it is unknown which network made this one."
        )

    @property
    def covered(self) -> str:
        """The sizes of images that the promise covers, in words.

        Whole images scored by tiles, and images of a calibration on many sizes, differ in size; sides up to
        FACTOR times as long or short are covered.
        """
        whole = self.tiles is not None
        return f"{'whole ' if whole else ''}{covered(self.sizes, many=whole)}"

    def not_covered(self, size: Size) -> str | None:
        """Return why the promise does not cover images of this size; None where it does."""
        if among(size, self.sizes, many=self.tiles is not None):
            return None
        return f"images of {size_text(size)} pixels: the promise covers only {self.covered}"


def _holds(dtype: np.dtype[Any], used: tuple[float, float]) -> bool:
    """Return whether integers of a type may have a range: it fits the type, and no type of half the size."""
    limits = np.iinfo(dtype)
    low, high = used
    if dtype.itemsize > 1:
        half = np.iinfo(f"{dtype.kind}{dtype.itemsize // 2}")
        if half.min <= low and high <= half.max:
            return False
    return limits.min <= low and high <= limits.max


EVERY_IMAGE = "every image"
"""Description of the images that closed masks hide, whatever they show."""
EVERY_CALIBRATION_IMAGE = "every calibration image"
"""Description of the images that are hidden where the score of a new one may be low enough to show some."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The terms of a promise, and the masks that keep it."""

    loss: StatedLoss
    threshold: float
    promise: Promise
    claim: str
    """The promise as a formula."""
    family: Mapping[str, Json]
    rule: Rule
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
    threshold_quantile: float | None = None
    """The quantile of the losses of selection images without a mask that the threshold was chosen as; None
    where it was given as a number."""
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

    image_errors: LogLinear | None = None
    """The regression of the unmasked loss on features of the score, for bounds per image."""
    code: Mapping[str, str] = field(default_factory=dict)
    """Hashes of the scorer and of other code from the user, by argument name."""

    @property
    def lam(self) -> float | None:
        """The lambda of all images; None where it depends on the image."""
        return self.rule.lam if isinstance(self.rule, ConstantLambda) else None

    @property
    def n_units(self) -> int:
        """The number of units that the promise counts."""
        return self.n_calibration if self.n_groups is None else self.n_groups

    @property
    def reference(self) -> Reference:
        """What y of the calibration images was, with the noise model where the loss used one."""
        used = self.repeats == 1 and self.loss.traits.truth.subtracts_noise
        return Reference(self.repeats, self.read.noise_model if used else None)

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

    def sentence_here(self, caveat: Caveat | None, sentence: str | None = None) -> str:
        """Return the promise, or another `sentence`; or that there is none if another network made images."""
        if caveat is None or not caveat.other:
            return self.sentence if sentence is None else sentence
        return f"NOT PROMISED: {caveat.text}. Nothing is promised for them."

    @property
    def choice_text(self) -> str | None:
        """How the threshold was chosen, in a sentence; None where it was given as a number."""
        if self.threshold_quantile is None:
            return None
        share = "half" if self.threshold_quantile == HALF else f"{100 * self.threshold_quantile:.4g} %"
        return self.promise.named(
            f"Threshold chosen by conformask: {share} of your selection images meet it without a mask; set "
            "yours with --threshold."
        )

    def formula_here(self, caveat: Caveat | None) -> list[str]:
        """Return the promise as a formula, as the last line; none for images that another network made."""
        return [] if caveat is not None and caveat.other else [self.formula]

    @property
    def formula(self) -> str:
        """The promise as a formula, with the images that it is about and rests on."""
        hides = "" if self.hides is None else f", kept only by hiding {self.hides} completely"
        by = f", from {self.reference.text}" if self.repeats else ""
        whom = whom_of(self.promise, self.n_calibration, self.n_groups, self.population)
        guarantee = f"{self.promise.guarantee}{', exploratory' * self.exploratory}{by}"
        return f"{self.promise.named(self.claim)} for {whom} ({guarantee}){hides}"

    @classmethod
    def from_json(cls, record: Mapping[str, Json], path: Path) -> Self:
        """Read the content of calibration.json."""
        return super().from_json(with_promise(with_loss(record, path)), path)

    def to_json(self) -> dict[str, Json]:
        """Return the content of calibration.json."""
        stated = {"loss": self.loss.to_json(), "promise": vars_but(self.promise, "weight", "t", "thresholds")}
        return {**super().to_json(), **stated}

    def fingerprint_of(self, scorer: str, arrays: Mapping[str, Array]) -> str:
        """Return a short hash of a masker with this card, with the scorer's fingerprint and its arrays.

        It hashes the fields that differ from their defaults. Loss and promise are flat, as in conformask 0.2,
        so that its maskers keep their fingerprints.
        """
        flat = self.to_json()
        terms = flat["promise"] | {"unit": SPELT.get(str(self.promise.unit), self.promise.unit)}
        promise = {SPELT.get(name, name): value for name, value in terms.items()}
        stated = {**flat, **as_hashed(self.loss), **promise}
        defaults = {field.name: field.default for field in (*fields(self), *fields(Reading))}
        defaults |= {"unit": None, "share": None, "within": False, "data_range": MISSING}
        names = stated.keys() - {"loss", "promise", "units", *WORDS}
        hashed = {name: stated[name] for name in names if stated[name] != defaults.get(name, MISSING)}
        digest = hash_of([hashed, scorer, hash_of_arrays(arrays)])
        return "-".join(digest[place : place + 4] for place in range(0, 16, 4))


def now() -> str:
    """Return the time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


HALF = 0.5
"""The quantile that is said in a word."""
OF = {0.9: "9 of 10", 0.95: "19 of 20", 0.99: "99 of 100"}
"""Shares of images that people count."""
FEW = 0.2
"""Width of the 95 % interval of a share from which the images measured are called few."""


def sentence_of(card: CalibrationCard) -> str:
    """Return the promise of a card as an English sentence."""
    promise, named = card.promise, card.promise.named
    event, limit_of_mean = card.loss.words.phrases(card)
    text = beginning_of(promise, card.population)
    text += f", {named(limit_of_mean if promise.axes.statement.bounds_a_mean else event)}"
    if card.hides is not None:
        text += f"; this is kept only by hiding {card.hides} completely"
    return as_sentence(text, exploratory=card.exploratory)


def as_sentence(text: str, *, exploratory: bool) -> str:
    """Return a promise in words as a sentence, which says so where it was chosen after looking."""
    text = f"if this had been fixed beforehand: {text}" if exploratory else text
    return f"{text[0].upper()}{text[1:]}."


def beginning_of(promise: Promise, population: str | None = None) -> str:
    """Return the beginning of a sentence: of how many images, and with which certainty."""
    share = promise.confidence
    beginning = promise.axes.population.by_itself + promise.axes.lam.under + promise.axes.certainty.sure
    if promised_share(promise) is not None:
        beginning += promise.axes.unit.event
    elif share is not None:
        beginning += (
            "for at least {share} new inputs, on average over the truths that an input leaves possible"
        )
    else:
        beginning += promise.axes.unit.average
    whom = population or "new images"
    return promise.named(beginning).format(
        share="" if share is None else OF.get(share, f"{written(100 * share)} % of"),
        certainty=f"{written(100 - 100 * (promise.delta or 0.0))} %",
        whom=whom if whom.startswith("new ") else f"new {whom}",
        origin=promise.axes.population.origin,
    )


def whom_of(promise: Promise, n: int, n_groups: int | None, population: str | None = None) -> str:
    """Return what a formula is about, and the n calibration images that it rests on, perhaps in groups."""
    images, new = f"the {n} calibration images", "new images"
    if n_groups is not None:
        images += f" in {n_groups} groups"
    if promise.unit == "group":
        images, new = f"the {n_groups} calibration groups of {n} images", "new groups"
    whom = f"{population}," if population else promise.named(new)
    return f"{whom} like {promise.named(images)}"


def promised_share(promise: Promise) -> float | None:
    """Return the promised share of images within the threshold; None if the promise is about a mean."""
    return None if promise.axes.statement.bounds_a_mean else promise.confidence


def kept_text(
    promise: Promise,
    units: str,
    n: int,
    coverage: float,
    interval: tuple[float, float],
    kept: str = "kept it",
    expected: tuple[float, float] | None = None,
) -> str:
    """Return how many of n units, such as "14 test images", kept a promise, and what that can tell.

    `interval` is the 95 % interval of the share of new units that keep it; `expected` are the shares between
    which 95 of 100 such tests lie if the promise holds, where they are known.
    """
    unit = promise.axes.unit
    is_count = unit.is_group or not promise.by_group  # otherwise groups count alike
    share = f"{coverage * n:,.0f}" if is_count else rounded_share(coverage)
    texts = []
    if expected is not None:
        low, high = (f"{end * n:,.0f}" if is_count else rounded_share(end) for end in expected)
        texts.append(f"{low} to {high} would if the promise holds")
    if expected is None:
        texts.append(f"95 % interval {_range(interval)}")
    elif interval[1] - interval[0] > FEW:
        counted = f"1 {unit.singular} shows" if n == 1 else f"{n:,} {unit.plural} show"
        texts.append(f"{counted} only that {_range(interval)} of new ones do")
    return promise.named(f"{share} of {units} {kept}{unit.judged} ({'; '.join(texts)})")


def _range(interval: tuple[float, float]) -> str:
    low, high = map(rounded_share, interval)
    return f"{low.removesuffix(' %')} to {high}"


def worst_text(worst: "CategoryCoverage | None", of_means: CalibrationCard | None = None) -> str:
    """Return the clause about the category that is judged; empty where the promise is not for each.

    With the card of a promise about means, it says the mean loss.
    """
    if worst is None:
        return ""
    found = f"{rounded_share(worst.coverage)} of {worst.n} (95 % interval {_range(worst.interval)})"
    if of_means is not None:
        found = f"{of_means.loss.words.mean(worst.mean_loss, of_means.values)} ({worst.n})"
    return f"; in the worst category, {worst.category}, {found}"


def hidden_text(card: CalibrationCard, hidden: float, best: float | None = None) -> str:
    """Return the mean hidden share of images, and that of the best possible masks, where it is known."""
    if card.lam == math.inf:
        return "Nothing needs hiding: enough calibration images are within the threshold as they are"
    extent = card.loss.extent
    whole, are = card.promise.named(extent.whole), "are" if extent.counts_objects else "is"
    known = ""
    if best is not None:  # it keeps the threshold on every image, where a promise leaves out some
        words = "best possible:" if best <= hidden else "to keep it on every image takes"
        known = f" ({words} {rounded_share(best)})"
    return f"{rounded_share(hidden)} of {whole} {are} hidden{known}"
