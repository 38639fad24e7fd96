"""The contents of evaluation.json: measurements on images with truth, and of the images since.

First, the result of a release: the images that are released and held back, and what is promised of them.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from conformask.errors import MismatchError, MissingFileError
from conformask.promises.coverage_test import UNLIKELY
from conformask.records.card import CalibrationCard, hidden_text, kept_text, promised_share, worst_text
from conformask.records.numbers import plural
from conformask.records.reading import CLEAN, Caveat, Network, Reference
from conformask.records.record import (
    CALIBRATION,
    Array,
    Json,
    SealedRecord,
    exclusive_folder,
    from_dict,
    publish,
    read_arrays,
    read_json,
    read_published,
    vars_but,
)
from conformask.records.selection import ScoreComparison
from conformask.records.upgrade import named


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


WORDS = {
    "brightness": ("darker", "brighter"),
    "contrast": ("less contrast", "more contrast"),
    "noise": ("less noise", "noisier"),
    "sharpness": ("blurred", "sharper"),
}
"""Words for less and for more of each property."""
FRACTIONS = {10: "a tenth", 20: "a fifth", 25: "a quarter", 33: "a third", 50: "half"}
"""Percentages with a name."""
NEAR = 2
"""Percentage points within which a fraction's name is used: medians of different images are not exact."""


@dataclass(frozen=True)
class Change:
    """A plain property of images that has clearly changed."""

    measure: str
    """The property: brightness, contrast, noise or sharpness."""
    role: str
    """The images that changed: x or y_hat."""
    ratio: float
    """The median of new images divided by the median of the calibration images."""

    @property
    def text(self) -> str:
        """The change in words, such as "darker by a fifth"."""
        word = WORDS[self.measure][self.ratio > 1]
        if self.measure == "sharpness":  # its ratio has no familiar unit
            return word
        if self.measure == "brightness" and 0.1 < self.ratio < 2:
            percent = 100 * abs(self.ratio - 1)
            nearest = min(FRACTIONS, key=lambda candidate: abs(candidate - percent))
            is_near, exactly = abs(nearest - percent) <= NEAR, f"{percent:.0f}\N{NO-BREAK SPACE}%"
            return f"{word} by {FRACTIONS[nearest] if is_near else exactly}"
        return f"{word} ({self.ratio:.2g} times)"


def card_of(record: Mapping[str, Json], path: Path) -> CalibrationCard:
    """Return the card of an evaluation; up to conformask 0.2 only the run folder held it."""
    if "card" in record:
        return CalibrationCard.from_json(record["card"], path)
    beside = path.parent / CALIBRATION
    if beside.is_file():
        calibration = read_json(beside)
        card, fingerprint = CalibrationCard.from_json(calibration, beside), calibration.get("fingerprint")
        terms = card.threshold, card.promise.confidence
        same_masker = record["fingerprint"] in ("", fingerprint)  # conformask 0.1 kept none
        if same_masker and terms == (record.get("threshold"), record.get("confidence")):
            return card
    raise MismatchError(
        f"{path} was written by an earlier conformask, and the calibration that it is about is not beside "
        "it: evaluate again"
    )


@dataclass(frozen=True)
class ImageRecords:
    """Measurements on each test image; arrays of shape (n,), float64 unless stated otherwise."""

    name: Array
    """Names, as strings."""
    loss: Array
    """Losses under the masks, such as d(m*y, m*y_hat)."""
    unmasked_loss: Array
    size: Array
    """Mask sizes, mean(1 - m)."""
    oracle_size: Array
    """Mask sizes of the exact oracle; NaN where there is none."""
    paper_oracle_size: Array
    """Mask sizes of the paper's Opt; NaN where not computed, or the threshold was not reached."""
    critical_lambda: Array
    difficulty: Array
    """Mean scores."""
    group: Array | None = None
    """Groups, as strings, an image's own name where it has none; None in conformask 0.1."""
    category: Array | None = None
    """Categories, as strings, empty where there is none; None in conformask 0.1."""
    passed: Array | None = None
    """True where the loss meets the threshold; None in conformask 0.1."""
    hidden_error: Array | None = None
    """Means of |y - y_hat| over what is hidden, weighted by 1 - m, in the region where the promise is about
    one; NaN where nothing is hidden; None in conformask 0.2."""
    shown_error: Array | None = None
    """Means of |y - y_hat| over what is shown, weighted by m."""
    shown_parts: Array | None = None
    """Numbers of connected parts that are shown; None for grey masks, and in conformask 0.2."""
    hidden_parts: Array | None = None
    """Numbers of connected parts that are hidden."""
    boundary: Array | None = None
    """Lengths of the boundary between shown and hidden parts, in sides of pixels."""

    @property
    def hidden_and_shown_error(self) -> tuple[float, float, int] | None:
        """Mean errors of what is hidden and of what is shown, over images with both, and their number.

        None where there are none, or nothing was recorded.
        """
        if self.hidden_error is None or self.shown_error is None:
            return None
        both = np.isfinite(self.hidden_error) & np.isfinite(self.shown_error)
        if not both.any():
            return None
        hidden, shown = (float(errors[both].mean()) for errors in (self.hidden_error, self.shown_error))
        return hidden, shown, int(both.sum())

    @property
    def parts(self) -> tuple[float, float, float] | None:
        """Mean numbers of shown and of hidden parts, and mean length of their boundary; None if unknown."""
        if self.shown_parts is None or self.hidden_parts is None or self.boundary is None:
            return None
        return float(self.shown_parts.mean()), float(self.hidden_parts.mean()), float(self.boundary.mean())

    def columns(self) -> dict[str, list[Json]]:
        """Return plain values by name; None where there is no group or category, or it was not recorded."""
        measured = {name: values.tolist() for name, values in vars(self).items() if values is not None}
        names, nothing = measured.pop("name"), [None] * len(self.name)
        groups, categories = measured.pop("group", names), measured.pop("category", nothing)
        return {
            "name": names,
            "group": [None if group == name else group for group, name in zip(groups, names, strict=True)],
            "category": [category or None for category in categories],
            "passed": measured.pop("passed", nothing),
            **measured,
        }


@dataclass(frozen=True)
class ObjectCounts:
    """Numbers of objects over all test images; they meet where their IoU is at least that of the loss."""

    n: int
    """Objects of y_hat."""
    right: int
    """Objects of y_hat that an object of y meets."""
    shown: int
    """Objects of y_hat that masks show."""
    shown_right: int
    """Objects of y_hat that masks show and an object of y meets."""
    true: int
    """Objects of y."""
    lacking: int
    """Objects of y that no object of y_hat meets: the network misses them, and no mask repairs that."""

    @property
    def shown_text(self) -> str:
        """How many of the objects are shown, and how many of these are there."""
        there = f"{_of(self.shown_right, self.shown)} are there"
        return f"of {self.shown:,} objects shown {there}, of all {self.n:,} {_of(self.right, self.n)}"

    @property
    def lacking_text(self) -> str:
        """How many of the objects of the reference the network lacks."""
        return (
            f"of {self.true:,} objects of the reference the network lacks {_of(self.lacking, self.true)}, "
            "which no mask brings back"
        )


def _of(count: int, whole: int) -> str:
    return f"{count:,}" + (f" ({count / whole:.1%})" if whole else "")


FILE = "evaluation.json"
STEMS = ("evaluation", "examples")
VERDICTS = {
    "agrees": ("Agrees with the promise", "#00735a"),
    "above": ("Above the promise", "#0072b2"),
    "below": ("Below the promise", "#b84500"),
}
"""Titles of verdicts by `standing`, and their colours in a notebook, those of the report."""
FRAMES = ("pandas", "polars")
"""Libraries whose DataFrame an evaluation can become; the first that is installed is used."""


def standing(
    confidence: float, measurement: "Measurement | Evaluation"
) -> Literal["above", "below", "agrees"]:
    """Return whether the coverage is where 95 % of tests of a promise that is kept lie, `expected`.

    Where no law of chance is known, whether its 95 % interval holds what was promised.
    """
    coverage, (low, high) = judged_coverage(measurement)
    if coverage > confidence:
        return "above" if is_rare(measurement.p_better, low > confidence) else "agrees"
    rare = coverage < confidence and is_rare(measurement.p_worse, high < confidence)
    return "below" if rare else "agrees"


def judged_coverage(measurement: "Measurement | Evaluation") -> tuple[float, tuple[float, float]]:
    """Return the coverage and its interval, of the worst category where the promise is for each."""
    worst = measurement.worst
    if worst is None:
        return measurement.coverage, measurement.coverage_interval
    return worst.coverage, worst.interval


def is_rare(p_value: float | None, beyond: bool) -> bool:
    """Return whether a result is unlikely by chance; without a p-value, whether the interval lies beyond."""
    return beyond if p_value is None else p_value < UNLIKELY


@dataclass(frozen=True)
class CategoryCoverage:
    """Coverage of the images of one category."""

    category: str
    n: int
    """Number of images, or of groups where the promise is about whole groups."""
    coverage: float
    interval: tuple[float, float]
    """95 % interval of the coverage."""
    mean_loss: float = math.nan
    """Mean loss under the masks; not recorded by conformask 0.2."""


@dataclass(frozen=True)
class Measurement:
    """A measurement on images with truth, to be compared with the promise."""

    n: int
    """Number of images, or of groups where the promise is about whole groups."""
    coverage: float
    """Share of images or groups that meet the threshold; for images of new groups the mean over groups."""
    coverage_interval: tuple[float, float]
    """95 % interval of the coverage."""
    mean_loss: float
    """Mean loss under the masks."""
    p_worse: float | None
    """The chance of a result at least as bad on images like the calibration's; None if no law is known."""
    p_better: float | None
    """The chance of a result at least as good."""
    broken: bool
    """True if less is kept than was promised, by more than chance explains."""
    expected: tuple[float, float] | None = None
    """Range of coverage, or mean loss, in 95 % of tests of this size if the promise is kept; else None."""
    worst: CategoryCoverage | None = None
    """The category that agrees least with a promise for each: p-values, range and `broken` are about it."""


@dataclass(frozen=True)
class Example:
    """One image of the gallery, ready to show: uint8, (H, W) or (H, W, 3)."""

    name: str
    kind: str
    """The kind: best, typical or worst (by loss against threshold)."""
    x: Array
    y: Array
    y_hat: Array
    mask: Array
    """The mask, 255 = trusted."""
    error: Array
    """Pixelwise error |y - y_hat|, averaged over channels, (H, W), 255 = error_scale."""
    error_scale: float
    size: float
    """Mask size, mean(1 - m)."""
    loss: float
    """Loss under the mask."""
    oracle_size: float | None
    black: float = 0.0
    """The share of the range that is black in x, y and y_hat: more than 0 where little of it is filled."""
    white: float = 1.0
    """The share of the range that is white there."""
    release: str = ""
    """Whether the image would be released at `Evaluation.release_share`, or why not; empty without one."""

    @property
    def image(self) -> str:
        """The name of the image, of which it may be a slice."""
        return self.name.partition(", slice ")[0]


@dataclass(frozen=True)
class RiskCurve:
    """The mean |y - y_hat| of what is shown when a share of each image is hidden, mean over test images."""

    shares: tuple[float, ...]
    """The hidden shares, ascending from 0."""
    by_score: tuple[float, ...]
    """The error that is left if the pixels of the largest scores are hidden."""
    best: tuple[float, ...]
    """The least that is left by any masks: the pixels of the largest errors are hidden."""


@dataclass(frozen=True)
class EvaluationProvenance:
    """The provenance of an evaluation, for repeating it."""

    calibrated: str
    """The time when the promise was made, in UTC."""
    images: str
    """A hash of all pixels of the test images, in their order."""
    versions: Mapping[str, str]
    """Versions of the software that computed it, by name."""
    command: str | None
    """The command line; None where there was none, as in a notebook."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The contents of evaluation.json: results of a calibrated masker on images that no choice has seen.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> y = np.random.default_rng(1).random((20, 16, 16), dtype=np.float32)
        >>> new = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> evaluation = cm.evaluate(masker, new)
        >>> len(evaluation.table())
        20
    """

    card: CalibrationCard
    """The card of the masker: its promise, and the images that it rests on and is about."""
    fingerprint: str
    """The fingerprint of the masker."""
    scorer: str
    n_test: int
    coverage: float
    coverage_interval: tuple[float, float]
    """95 % interval: Clopper-Pearson, with an effective number of images if they are in groups."""
    mask_size: float
    mask_size_interval: tuple[float, float]
    """95 % bootstrap interval of the mean mask size."""
    mask_size_oracle: float | None
    mask_size_paper_oracle: float | None
    n_paper_oracle: int
    """Number of images on which the paper's Opt was computed and reached the threshold."""
    ratio_to_oracle: float | None
    """The ratio mask_size / mask_size_oracle."""
    correlation_size_loss: float | None
    """Pearson correlation C(M, D) of mask size and loss without a mask."""
    correlation_size_oracle: float | None
    """Pearson correlation C(M, M_opt) of mask size and the paper's Opt's."""
    spearman_size_loss: float | None
    spearman_size_oracle: float | None
    coverage_by_difficulty: tuple[float, ...]
    """Coverage by decile of the mean score, easiest first."""
    size_by_difficulty: tuple[float, ...]
    size_by_threshold: tuple[tuple[float, float], ...]
    """Pairs (threshold, mean mask size on the calibration images) at the same confidence, ascending."""
    images: ImageRecords
    examples: tuple[Example, ...] = ()
    mean_loss: float = math.nan
    """Mean loss under the masks."""
    mean_loss_interval: tuple[float, float] = (math.nan, math.nan)
    """95 % bootstrap interval over images, or whole groups where there are any."""
    p_worse: float | None = None
    """The chance of a result at least as bad on images like the calibration's; None if no law is known."""
    p_better: float | None = None
    """The chance of a result at least as good on images like the calibration's."""
    expected: tuple[float, float] | None = None
    """Range in which 95 % of tests of this size lie if the promise is kept, by chance of calibration and
    test: of the coverage, or for a promise about a mean of the mean loss; None where no law is known."""
    risk: RiskCurve | None = None
    """The error that is left when a share of each image is hidden; None in conformask 0.2."""
    coverage_by_category: tuple[CategoryCoverage, ...] = ()
    """Coverage of each category, where the promise is for each category."""
    worst: CategoryCoverage | None = None
    """The one that agrees least with the promise: p-values, range and verdict are about it."""
    network: Network | None = None
    """The network that made y_hat of the test images."""
    caveat: Caveat | None = None
    """A caveat for every result, if that is not the network that the promise is about."""
    n_groups: int | None = None
    """Number of groups of the test images, where the promise counts groups."""
    comparison: ScoreComparison | None = None
    """The benchmark of the score on the selection images, where it was compared there."""
    reference: Reference = CLEAN
    """What y of the test images is: the truth, or repeats with noise."""
    noise_floor: float | None = None
    """Mean over the test images of the mean noise of y, the l2 to it that even a perfect output would have;
    None where y is the truth, or its noise is not known."""
    objects: ObjectCounts | None = None
    """Counts of objects, where the promise is about them."""
    made: EvaluationProvenance | None = None
    """The provenance; None in an evaluation of an earlier conformask."""
    power: tuple[ReleasePower, ...] = ()
    """What a release keeps at several shares; empty where nothing can be promised of one."""
    release_share: float | None = None
    """The share at which images of the gallery are released or held back; None where there is no power."""
    again: Callable[[Mapping[str, Any]], "Evaluation"] | None = field(default=None, compare=False)
    """Evaluates the same images under another promise; None where this was read from a folder."""

    def __repr__(self) -> str:
        return f"Evaluation({self.card.sentence} {self.kept_text}. {self.hidden_text}.)"

    def _repr_html_(self) -> str:
        confidence, title, tone = promised_share(self.card.promise), "", "#5d6470"
        is_other = self.caveat is not None and self.caveat.other
        if confidence is not None and not is_other and self.card.hides is None:
            title, tone = VERDICTS[standing(confidence, self)]
        edge = f"border-left:4px solid {tone};padding:2px 0 2px 14px"
        title = f"<p><b>{title}</b></p>" if title else ""
        measured = f"<p>{escape(self.kept_text)}. {escape(self.hidden_text)}.</p>"
        formula = f"<p><small><code>{escape(self.card.formula)}</code></small></p>"
        return f'<div style="{edge}">{title}<p>{escape(self.card.sentence)}</p>{measured}{formula}</div>'

    @property
    def errors_of_pixels(self) -> tuple[float, float, int] | None:
        """`hidden_and_shown_error`; None where objects are hidden, which are not wrong by their pixels."""
        return None if self.card.loss.extent.counts_objects else self.images.hidden_and_shown_error

    @property
    def n_units(self) -> int:
        """The number of test images, or of test groups where a promise is about whole groups."""
        groups = self.n_groups if self.card.promise.axes.unit.is_group else None
        return groups or self.n_test

    @property
    def kept_text(self) -> str:
        """How many of the test images met the threshold, in words; of a promise about a mean, their mean."""
        card, mean = self.card, self.card.loss.words.mean
        if promised_share(card.promise) is None:
            found, limit = mean(self.mean_loss, card.values), mean(card.threshold, card.values)
            return (
                f"On average over {plural(self.n_test, 'test image')} the loss was {found}"
                f"{worst_text(self.worst, card)}; at most {limit} was promised"
            )
        facts = self.n_units, self.coverage, self.coverage_interval
        expected = None if self.worst is not None else self.expected  # of the worst category alone
        kept = kept_text(self.card.promise, self.units_text, *facts, expected=expected)
        return kept + worst_text(self.worst)

    @property
    def units_text(self) -> str:
        """What was counted in the test, such as "14 test images"."""
        unit = self.card.promise.axes.unit
        counted = f"{self.n_units:,} test {unit.singular if self.n_units == 1 else f'{unit.singular}s'}"
        return self.card.promise.named(counted)

    @property
    def hidden_text(self) -> str:
        """How much is hidden of the test images, in words."""
        return hidden_text(self.card, self.mask_size, self.mask_size_oracle)

    def __iter__(self) -> Iterator[dict[str, Json]]:
        """Iterate over the rows of `table`, so that pandas.DataFrame(evaluation) has the expected rows."""
        return iter(self.table())

    def table(self) -> list[dict[str, Json]]:
        """Return a dict of plain values per image: name, group, category, passed, loss, size (hidden)...

        Unknown numbers are NaN, other unknown values None.
        """
        columns = self.images.columns()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def to_frame(self) -> Any:
        """Return the rows of `table` as a DataFrame of pandas, or of polars if pandas is not installed.

        Raises:
            MissingFileError: neither pandas nor polars is installed.
        """
        for library in FRAMES:
            if find_spec(library) is not None:
                return import_module(library).DataFrame(self.images.columns())
        raise MissingFileError(
            f"a DataFrame needs {' or '.join(FRAMES)}: pip install {FRAMES[0]}; table() gives the same rows "
            "without it"
        )

    def recalibrate(self, **promise: Any) -> "Evaluation":
        """Evaluate the same masker under another promise, on the same images.

        Args:
            promise: threshold, confidence and other arguments of `Masker.recalibrate`. A promise chosen
                on test images does not hold: the result is marked exploratory where the masker is.

        Raises:
            MismatchError: this evaluation was read from a folder, without masker and images.
            ConformaskError: see `Masker.recalibrate` and `evaluate`.
        """
        if self.again is None:
            raise MismatchError(
                "this evaluation was read from a folder, without masker and images: recalibrate the masker "
                "and call evaluate(masker.recalibrate(...), test)"
            )
        return self.again(promise)

    def summary(self) -> dict[str, Json]:
        """Return all fields but the arrays: the contents of evaluation.json."""
        record = vars_but(self, "images", "examples", "again")
        promise = {"sentence": self.card.sentence, "formula": self.card.formula}
        return {**promise, **record, "card": self.card.to_json()}

    def save(self, folder: str | Path) -> None:
        """Write evaluation.json and the files it names, evaluation-*.npz and examples-*.npz."""
        folder, examples = Path(folder), dict[str, Array]()
        for index, example in enumerate(self.examples):
            for name, value in vars(example).items():
                examples[f"{index:03d}/{name}"] = np.asarray(np.nan if value is None else value)
        with exclusive_folder(folder):
            images = {name: values for name, values in vars(self.images).items() if values is not None}
            arrays = {"evaluation": images, "examples": examples}
            publish(folder / FILE, self.summary(), arrays)

    @classmethod
    def load(cls, folder: str | Path) -> "Evaluation":
        """Read an evaluation that save wrote.

        Raises:
            MissingFileError: the folder holds no evaluation.
            MismatchError: a file is damaged, or was not written with the others.
        """
        folder = Path(folder)
        path = folder / FILE
        record = read_json(path)
        if record["schema"] == 1:
            published = SealedRecord(record, {stem: read_arrays(folder / f"{stem}.npz") for stem in STEMS})
        else:
            published = read_published(path, STEMS)
        try:
            images = ImageRecords(**named(published.arrays["evaluation"]))
            examples = list(_examples(published.arrays["examples"]))
        except (KeyError, TypeError, ValueError) as error:
            raise MismatchError(f"{folder} contains a damaged evaluation ({error}): repeat it") from error
        record = named(published.record)
        record = {"mean_loss": float(images.loss.mean()), "fingerprint": "", **record}
        record |= {"card": card_of(record, path), "images": images, "examples": examples}
        return from_dict(cls, record, path)


def _examples(arrays: Mapping[str, Array]) -> Iterator[Example]:
    for index in sorted({key.split("/")[0] for key in arrays}):
        values = {key.split("/")[1]: values for key, values in arrays.items() if key.startswith(f"{index}/")}
        plain = {key: a.item() if a.ndim == 0 else a for key, a in named(values).items()}
        oracle = plain.pop("oracle_size")
        yield Example(**plain, oracle_size=None if np.isnan(oracle) else oracle)
