"""Intervals around a number of an output, which contain that of the truth for a promised share of images.

The residual of an image is r = (f(y) - f(y_hat)) / u: f is the number, and u, fixed before a calibration
image is looked at, is 1 or |f(y_hat)|, or either times a power of what the score says. An order statistic q
of the residuals of n calibration images bounds that of a new one (Papadopoulos et al. 2002); two of them,
each with half of the miscoverage, make the interval from f(y_hat) + u q_low to f(y_hat) + u q_high. A theorem
about critical lambdas that looks at their order alone holds for residuals: the largest is the least lambda.

A run folder keeps numbers/NAME.json, one for each number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from conformask.arithmetic import best_device
from conformask.background import tracked
from conformask.errors import CalibrationError, InvalidArgumentError, MismatchError, MissingFileError, expect
from conformask.extras.measure.quantities import Function, Quantity, part_of, quantity
from conformask.images.rows import Role
from conformask.images.triplets import Triplets
from conformask.masker.guards import check_sample_size, refuse_known, truth_ids, used_images
from conformask.masker.masker import Masker
from conformask.promises.data import CalibrationData, Curves
from conformask.promises.intervals import clopper_pearson
from conformask.promises.promise import AnyPromise, Promise
from conformask.promises.promise import promise as promise_of
from conformask.promises.rules import CategoryLambda, ConstantLambda, ImageCovariates, covariates_of
from conformask.records.card import as_sentence, beginning_of, kept_text
from conformask.records.files import refuse_unclaimed
from conformask.records.numbers import rounded_up, written
from conformask.records.record import Json, from_dict, read_json, value_as, vars_but, write_json

Numbers = Float[np.ndarray, "n"]
RELATIVE = ("volume", "area", "sum")
"""Numbers whose intervals are relative if nothing is said."""
GUARANTEES = ("marginal", "pac", "groups", "categories")
"""Guarantees whose theorems look at the order of critical lambdas alone, and give one for all images."""
EXPONENTS = (0.0, 0.5, 1.0)
"""Powers of what the score says of an image, by which its interval may be wider."""
PAYS, FEWEST = 0.95, 20
"""An exponent is taken if it makes intervals at most this wide, as a share, on this many selection images."""
TINY = 1e-12
"""Added to the mean score of an image."""


@dataclass(frozen=True)
class Side:
    """One end of the intervals: an order statistic of the calibration residuals."""

    rule: ConstantLambda | CategoryLambda
    """The rule from an image to a place among the residuals, 1 for the largest; 0 where there is none."""
    residuals: tuple[float, ...]
    """The different calibration residuals, the largest first."""

    @classmethod
    def of(cls, promise: Promise, residuals: Numbers, columns: Curves) -> "Side":
        """Return the end that a promise gives; the columns are those of the images."""
        ascending, places = np.unique(-residuals, return_inverse=True)
        rule = promise.rule(CalibrationData(0.0, 1.0 + places, columns))
        assert isinstance(rule, ConstantLambda | CategoryLambda)
        return cls(rule, tuple(map(float, -ascending)))

    def limits(self, facts: ImageCovariates) -> Numbers:
        """Return the largest residual that each image may have; inf where nothing is promised."""
        places = self.rule(facts).clip(max=len(self.residuals))
        limits: Numbers = np.array([math.inf, *self.residuals])[places.astype(int)]
        return limits


@dataclass(frozen=True)
class Measured:
    """Numbers of images, and what the score says of each."""

    outputs: Numbers
    truths: Numbers | None
    scores: Numbers
    """Mean score where the number is computed, above 0; 1 where it is not needed."""
    ids: tuple[str, ...]
    """Hashes of the truths, by which images are recognised; "" where they are not known."""


@dataclass(frozen=True)
class Interval:
    """The number of an output, and the interval that is promised to contain that of the truth."""

    name: str
    value: float
    low: float
    high: float
    truth: float | None = None
    within: bool | None = None
    """Whether the number of the truth lies in the interval; None where the truth is not known."""
    used: bool = False
    """True for an image that an earlier step has seen, so that it shows nothing about new ones."""


@dataclass(frozen=True)
class Number:
    """A number with a promise: intervals for new images."""

    masker: Masker
    """The masker of the run: how images are read and scored, and which ones the promise is about."""
    quantity: Quantity
    label: int | None
    """The label that the number is about; None for all of them."""
    promise: Promise
    relative: bool
    symmetric: bool
    exponent: float
    """The exponent of the mean score in the width of an interval."""
    unit: str
    sides: tuple[Side, Side]
    """The upper and the lower end, the latter with residuals of the opposite sign."""
    n: int
    """The number of calibration images."""
    seen: frozenset[str]
    """Hashes of the calibration images and of their groups."""
    exploratory: bool = False
    """True if another calibration of the number on these images came before."""

    @property
    def is_constant(self) -> bool:
        """True if the intervals of all images have the same ends, relative to the number."""
        return self.exponent == 0 and all(isinstance(side.rule, ConstantLambda) for side in self.sides)

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest residual, rounded outwards to three digits; of those of all images."""
        high, low = (float(side.limits(ImageCovariates(1))[0]) for side in self.sides)
        return -rounded_up(low), rounded_up(high)

    @property
    def sentence(self) -> str:
        """The promise in one English sentence."""
        named = f"the true {self.quantity.name}"
        event = f"{named} lies in the interval that is given for it"
        if self.is_constant:
            event = f"{named} lies between {' and '.join(map(self._offset, self.ends))} that of the output"
        return as_sentence(f"{beginning_of(self.promise)}, {event}", exploratory=self.exploratory)

    def _offset(self, end: float) -> str:
        size = f"{written(abs(100 * end))} %" if self.relative else f"{written(abs(end))} {self.unit}".strip()
        return f"{size} {'below' if end < 0 else 'above'}"

    @property
    def formula(self) -> str:
        """The promise as a formula."""
        f, parts = self.quantity.name, []
        parts += [f"|{f}(y_hat)|"] * self.relative
        if self.exponent:
            parts.append("(mean score)" + (f"^{self.exponent:g}" if self.exponent != 1 else ""))
        residual = f"{f}(y) - {f}(y_hat)"
        width = " ".join(parts)
        residual = f"({residual}) / {f'({width})' if len(parts) > 1 else width}" if parts else residual
        if isinstance(self.sides[0].rule, ConstantLambda):
            claim = f"{self.ends[0]:.4g} <= {residual} <= {self.ends[1]:.4g}"
        else:
            claim = f"low of the category <= {residual} <= high of the category"
        rate = f"P({claim}) >= {self.promise.confidence:g}"
        whom = f"new images like the {self.n} calibration images ({self.promise.guarantee})"
        return self.promise.named(f"{self.promise.axes.certainty.claim(rate)} for {whom}")

    def intervals(self, triplets: Triplets, *, allow_network_mismatch: bool = False) -> list[Interval]:
        """Return the interval of each image, and whether it holds the true number where that is known.

        Warns:
            ConformaskWarning: the images are not those that the promise is about.

        Raises:
            MismatchError: outputs of another network; other channels; no labels, or another unit.
        """
        self.masker.admit(triplets, allow_network_mismatch=allow_network_mismatch).warn()
        scored = self.exponent > 0
        measured = _measured(self.masker, triplets, self.quantity, self.label, self.unit, scored=scored)
        facts = covariates_of(_columns(triplets))
        high, low = (side.limits(facts) for side in self.sides)
        widths = _widths(measured, relative=self.relative, exponent=self.exponent)
        lows, highs = measured.outputs - _times(widths, low), measured.outputs + _times(widths, high)
        columns = zip(
            triplets.names, *(map(float, each) for each in (measured.outputs, lows, highs)), strict=True
        )
        found = [Interval(*each) for each in columns]
        if measured.truths is None:
            return found
        used = used_images(self.masker.seen | self.seen, triplets, measured.ids)
        pairs = zip(measured.truths.tolist(), used.tolist(), strict=True)
        return [
            replace(each, truth=y, within=each.low <= y <= each.high, used=is_used)
            for each, (y, is_used) in zip(found, pairs, strict=True)
        ]


def measure(
    masker: Masker,
    images: Triplets,
    of: str | Function,
    *,
    label: int | None = None,
    promise: AnyPromise = "marginal",
    ends: Literal["relative", "absolute"] | None = None,
    symmetric: bool = False,
    selection: Triplets | None = None,
    allow_network_mismatch: bool = False,
) -> Number:
    """Calibrate a number of the outputs: an interval around it that contains the number of the truth.

    Args:
        masker: a calibrated masker for outputs of the same network; the images of its calibration may be used
            again, for this is a promise of its own.
        images: calibration images with truth.
        of: volume or area (of the pixels with a label, in the unit of the spacing), count (of labels), mean
            or sum (of the values of the files, averaged over channels, where a label or the region is); or a
            function of an image, (C, *space) in the values of the files, and its labels, (*space) or None.
        label: the label that the number is about; all that are not 0 if None.
        promise: marginal, pac, groups or categories, or a `Promise` with its numbers and units.
        ends: relative, as shares of the number of the output, or absolute; if None, relative for volume, area
            and sum.
        symmetric: whether the ends lie equally far; otherwise each has half of the miscoverage, for which
            about twice as many images are needed.
        selection: images by which it is decided whether intervals are wider where the score is higher; they
            are not, without 20 of them.
        allow_network_mismatch: continue with a warning where another network made y_hat.

    Raises:
        InvalidArgumentError: an unknown number or promise; no truth; no labels.
        MismatchError: outputs of another network; other channels.
        CalibrationError: too few images, or some that an earlier step than a calibration has seen.

    Examples:
        >>> import conformask as cm
        >>> from conformask.testing import small_masker, small_triplets
        >>> brightness = cm.measure(small_masker(), small_triplets(40, seed=1), "mean")
        >>> brightness.intervals(small_triplets(1, seed=2))[0].within
        True
    """
    expect(masker, Masker, "masker", "what calibrate() or load() returned")
    what, stated = quantity(of), promise_of(promise)
    if stated.guarantee not in GUARANTEES:
        raise InvalidArgumentError(
            f"a number takes the guarantees {', '.join(GUARANTEES)}, not {stated.guarantee}: choose one"
        )
    relative = what.name in RELATIVE if ends is None else ends == "relative"
    of_side = stated if symmetric else _half(stated)
    masker.admit(images, allow_network_mismatch=allow_network_mismatch).warn()
    columns = _columns(images)
    _check_count(of_side, masker, columns, symmetric=symmetric)
    unit = what.unit(images.geometry(0), images.values)
    if not images.has_truth:
        raise InvalidArgumentError("a number is calibrated on images with y, and some have none: add them")
    exponent = 0.0
    if selection is not None and len(selection) >= FEWEST:
        of_selection = _measured(masker, selection, what, label, unit, scored=True)
        exponent = _best_exponent(
            of_selection, of_side, _columns(selection), relative=relative, symmetric=symmetric
        )
    measured = _measured(masker, images, what, label, unit, scored=exponent > 0)
    refuse_known(masker.seen.difference(masker.card.calibrated_on), images, measured.ids)
    sides = _sides(measured, of_side, columns, relative=relative, symmetric=symmetric, exponent=exponent)
    seen = frozenset({*measured.ids, *filter(None, images.group_ids)} - {""})
    return Number(masker, what, label, stated, relative, symmetric, exponent, unit, sides, len(images), seen)


def _half(promise: Promise) -> Promise:
    """Return the promise of one of two ends: two that fail half as often fail together at most as often."""
    assert promise.confidence is not None
    delta = None if promise.delta is None else promise.delta / 2
    return replace(promise, confidence=(1 + promise.confidence) / 2, delta=delta)


def _columns(images: Triplets) -> Curves:
    """Return the groups and categories of images, as the theorems take them."""
    known = None not in images.categories
    category = np.array(images.categories, dtype=np.str_) if known else None
    empty = np.zeros((len(images), 2))
    return Curves(
        np.array(images.names), np.array([0.0, math.inf]), empty, empty,
        group=np.array(images.groups), category=category,
    )  # fmt: skip


def _check_count(promise: Promise, masker: Masker, columns: Curves, *, symmetric: bool) -> None:
    try:
        check_sample_size(promise, 0.0, masker.loss, len(columns.names), columns.columns)
    except CalibrationError as error:
        if symmetric:
            raise
        raise CalibrationError(
            f"{error}. Each end of an interval has half of the miscoverage; symmetric ones (--symmetric) "
            "need about half as many"
        ) from error


def _measured(
    masker: Masker, triplets: Triplets, of: Quantity, label: int | None, unit: str, *, scored: bool
) -> Measured:
    """Compute the number of y_hat and y of each image, and if `scored` its mean score where they are."""
    _check(triplets, of)
    values = triplets.values
    numbers: dict[Role, list[float]] = {"y_hat": []}
    if triplets.has_truth:
        numbers["y"] = []
    scores: list[float] = []
    ids: list[str] = []
    for batch in tracked(triplets.batches(), of.name, len(triplets), len):
        maps = np.ones((len(batch), *batch.y_hat.shape[2:]))
        if scored:
            maps = masker.scored(batch.to(best_device())).score.map.mean(dim=1).cpu().numpy()
        ids += truth_ids(batch).tolist()
        for index, name in enumerate(batch.names):
            parts = {role: part_of(batch, index, role, values, label) for role in numbers}
            if (own := of.unit(parts["y_hat"].geometry, values)) != unit:
                raise MismatchError(
                    f"{name!r} has a spacing in {own or 'no unit'}, but the {of.name} is in {unit}"
                )
            for role, part in parts.items():
                numbers[role].append(of.of(part, f"{role} of {name!r}"))
            labels = parts["y_hat"].labels
            inside = maps[index] if labels is None or not labels.any() else maps[index][labels > 0]
            scores.append(float(inside.mean(dtype=np.float64)) + TINY)
    truths = np.array(numbers["y"]) if "y" in numbers else None
    return Measured(np.array(numbers["y_hat"]), truths, np.array(scores), tuple(ids))


def _check(triplets: Triplets, of: Quantity) -> None:
    """Raise where the images lack what the number is computed from."""
    if of.dimensions not in (None, triplets.dimensions):
        other = "area" if of.name == "volume" else "volume"
        raise InvalidArgumentError(
            f"the images have {triplets.dimensions} axes: measure their {other}, not {of.name}"
        )
    needed = ["labels", *["y_labels"] * triplets.has_truth] if of.about == "labels" else []
    for name in needed:
        if not triplets.has(name):
            raise InvalidArgumentError(
                f"the {of.name} is that of labels of y_hat and of y, and some images have no {name}: name "
                "their folder with --objects (objects= of a Reading), or give labels= and y_labels= to "
                "from_arrays"
            )


def _widths(measured: Measured, *, relative: bool, exponent: float) -> Numbers:
    """Return u of each image."""
    return (np.abs(measured.outputs) if relative else 1.0) * measured.scores**exponent


def _times(widths: Numbers, limits: Numbers) -> Numbers:
    """Return u q; infinite where q is, also for an image with u = 0."""
    return np.where(np.isfinite(limits), widths * np.where(np.isfinite(limits), limits, 0.0), limits)


def _residuals(measured: Measured, *, relative: bool, exponent: float) -> Numbers:
    assert measured.truths is not None
    difference, widths = (
        measured.truths - measured.outputs,
        _widths(measured, relative=relative, exponent=exponent),
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, 0.0, difference / widths)


def _sides(
    measured: Measured, promise: Promise, columns: Curves, *, relative: bool, symmetric: bool, exponent: float
) -> tuple[Side, Side]:
    residuals = _residuals(measured, relative=relative, exponent=exponent)
    signed = [np.abs(residuals)] * 2 if symmetric else [residuals, -residuals]
    high, low = (Side.of(promise, each, columns) for each in signed)
    return high, low


def _best_exponent(
    measured: Measured, promise: Promise, columns: Curves, *, relative: bool, symmetric: bool
) -> float:
    """Return the exponent whose intervals are the narrowest on the selection images, 0 unless one pays."""
    means = {}
    for exponent in EXPONENTS:
        sides = _sides(measured, promise, columns, relative=relative, symmetric=symmetric, exponent=exponent)
        widths = _widths(measured, relative=relative, exponent=exponent)
        limits = (side.limits(covariates_of(columns)) for side in sides)
        means[exponent] = float(sum((widths * each).mean() for each in limits))
    best = min(means, key=lambda exponent: means[exponent])
    return best if means[best] <= PAYS * means[0.0] else 0.0


def kept(number: Number, intervals: Sequence[Interval]) -> str | None:
    """Return how many intervals of unused images hold the true number; None where images are not counted."""
    within = [bool(each.within) for each in intervals if each.truth is not None and not each.used]
    if not within or number.promise.by_group:
        return None
    share, interval = float(np.mean(within)), clopper_pearson(sum(within), len(within))
    return f"Measured: {kept_text(number.promise, f'{len(within)} images', len(within), share, interval)}."


NUMBERS = "numbers"
"""Subfolder of the run folder."""
SETTINGS = ("label", "relative", "symmetric")
"""Settings of a number; a second calibration with others is exploratory."""
KEPT = (*SETTINGS, "exponent", "unit", "n", "exploratory")


def file_of(run: Path, of: Quantity) -> Path:
    """Return the file of a number."""
    return run / NUMBERS / f"{of.name}.json"


def save(number: Number, run: Path) -> Number:
    """Write a number into the folder of its run, in the place of one of this name; return it.

    It is exploratory if the other one was calibrated, with other settings, on some of the same images.
    """
    path = file_of(run, number.quantity)
    refuse_unclaimed([path])
    if path.exists():
        before = load(number.masker, path, number.quantity)
        changed = any(vars(before)[name] != vars(number)[name] for name in ("promise", *SETTINGS))
        overlap = not before.seen.isdisjoint(number.seen)
        number = replace(number, exploratory=overlap and (changed or before.exploratory))
    path.parent.mkdir(exist_ok=True)
    promise = vars_but(number.promise, "weight", "t", "thresholds")
    record: dict[str, Json] = {
        "number": number.quantity.name, "sentence": number.sentence, "formula": number.formula,
        "fingerprint": number.masker.fingerprint, "promise": promise,
        **{name: vars(number)[name] for name in KEPT}, "sides": number.sides, "seen": sorted(number.seen),
    }  # fmt: skip
    write_json(path, record)
    return number


def load(masker: Masker, path: Path, of: Quantity) -> Number:
    """Read a number that `save` wrote."""
    record = read_json(path, needed=("fingerprint", "promise", "sides", "seen", *KEPT))
    if record["fingerprint"] != masker.fingerprint:
        raise MismatchError(f"{path} is a number of another masker than that of its run: calibrate it again")
    promise = from_dict(Promise, record["promise"], path)
    high, low = value_as(tuple[Side, Side], record["sides"], path)
    kept = {name: record[name] for name in KEPT}
    return Number(masker, of, promise=promise, sides=(high, low), seen=frozenset(record["seen"]), **kept)


def load_all(masker: Masker, run: Path, functions: tuple[Function, ...] = ()) -> list[Number]:
    """Read all numbers of a run; functions of somebody's own are given again.

    Raises:
        MissingFileError: there is none.
        InvalidArgumentError: a number that is no function of these, and has no name of its own.
    """
    own = {each.name: each for each in map(quantity, functions)}
    paths = sorted((run / NUMBERS).glob("*.json"))
    if not paths:
        raise MissingFileError(
            f"no number is calibrated in {run}: conformask measure {run} DATA --of volume calibrates one"
        )
    return [load(masker, path, own.get(path.stem) or quantity(path.stem)) for path in paths]
