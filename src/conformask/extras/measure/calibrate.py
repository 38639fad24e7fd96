"""Calibration of a number: what is chosen beforehand, and the order statistics of its residuals."""

from dataclasses import replace
from typing import Literal

import numpy as np

from conformask.errors import CalibrationError, InvalidArgumentError
from conformask.extras.measure.interval import (
    Function,
    Measured,
    Number,
    Numbers,
    Side,
    alone,
    check_measurable,
    facts_of,
    measured_of,
    offsets,
    quantity,
    widths_of,
)
from conformask.images.scan import scan
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.masker.checks import check_sample_size, refuse_duplicates, refuse_known
from conformask.masker.masker import Masker
from conformask.masker.request import AnyScorer
from conformask.masker.resolve import scorer_for
from conformask.masker.terms import domain_of
from conformask.promises.order import Curves
from conformask.promises.promise import AnyPromise, Promise, promise as promise_of
from conformask.scores.scorer import Scorer
from conformask.scores.untrained import check_scorer

RELATIVE = ("volume", "area", "sum")
"""Numbers whose intervals are relative if nothing is said."""
GUARANTEES = ("marginal", "pac", "groups", "categories")
"""Guarantees whose theorems look at the order of critical lambdas alone, and give one for all images."""
EXPONENTS = (0.0, 0.5, 1.0)
"""Powers of what the score says of an image, by which its interval may be wider."""
PAYS, FEWEST = 0.95, 20
"""An exponent is taken if it makes intervals at most this wide, as a share, on this many selection images."""


def measure(
    scorer: Masker | AnyScorer,
    images: Triplets,
    of: str | Function,
    *,
    label: int | None = None,
    promise: AnyPromise = "marginal",
    ends: Literal["relative", "absolute"] | None = None,
    symmetric: bool = False,
    selection: Triplets | None = None,
) -> Number:
    """Calibrate a number of the outputs: an interval around it that contains the number of the truth.

    Args:
        scorer: what says where an interval should be wider: a score, such as packaged_scorer(), or that of a
            masker for outputs of the same network, whose calibration images may be used again, for this is a
            promise of its own.
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
    what, stated = quantity(of), promise_of(promise)
    if stated.guarantee not in GUARANTEES:
        raise InvalidArgumentError(
            f"a number takes the guarantees {', '.join(GUARANTEES)}, not {stated.guarantee}: choose one"
        )
    relative = what.name in RELATIVE if ends is None else ends == "relative"
    of_side = stated if symmetric else _half(stated)
    columns = facts_of(images)
    _check_count(of_side, columns, symmetric=symmetric)
    unit = what.unit(images.geometry(0), images.values)
    if not images.has_truth:
        raise InvalidArgumentError("a number is calibrated on images with y, and some have none: add them")
    check_measurable(images, what, with_truth=True)
    used = _score_for(scorer, images, selection)
    summary = scan(images, "reading calibration images")
    exponent, chosen_on = 0.0, frozenset[str]()
    if selection is not None and len(selection) >= FEWEST:
        of_selection = measured_of(used, selection, what, label, unit, scored=True)
        exponent = _best_exponent(
            of_selection, of_side, facts_of(selection), relative=relative, symmetric=symmetric
        )
        chosen_on = frozenset({*of_selection.ids, *filter(None, selection.group_ids)} - {""})
    refuse_known(used.trained_on | chosen_on, images, summary.pixels)
    refuse_duplicates(summary, images.groups)
    measured = measured_of(used, images, what, label, unit, scored=exponent > 0)
    sides = _sides(measured, of_side, columns, relative=relative, symmetric=symmetric, exponent=exponent)
    domain, seen = domain_of(images, summary, used), chosen_on.union(summary.truth_ids)
    n_groups = stated.axes.unit.count(len(images), columns.columns) if stated.by_group else None
    return Number(
        used, domain, what, label, stated, relative, symmetric, exponent, unit, sides, len(images), n_groups,
        seen,
    )  # fmt: skip


def _score_for(scorer: Masker | AnyScorer, images: Triplets, selection: Triplets | None) -> Scorer:
    """Return the score for images, which were made by a network that it, or its masker, is about."""
    if isinstance(scorer, Masker):
        scorer.admit(images).warn()
        return alone(scorer.scorer, scorer.card.tiles)
    check_scorer(scorer)
    made = scorer_for(scorer, images, scorer.loss or loss("l1"), selection)
    return alone(made, made.tiles)


def _half(promise: Promise) -> Promise:
    """Return the promise of one of two ends: two that fail half as often fail together at most as often.

    So do two ends that leave out half as many images of a group.
    """
    assert promise.confidence is not None
    delta = None if promise.delta is None else promise.delta / 2
    share = None if promise.share is None else (1 + promise.share) / 2
    return replace(promise, confidence=(1 + promise.confidence) / 2, delta=delta, share=share)


def _check_count(promise: Promise, columns: Curves, *, symmetric: bool) -> None:
    try:
        check_sample_size(promise, 0.0, loss("l1"), len(columns.names), columns.columns)
    except CalibrationError as error:
        if symmetric:
            raise
        raise CalibrationError(
            f"{error}. Each end of an interval has half of the miscoverage; symmetric ones (--symmetric) "
            "need about half as many"
        ) from error


def _residuals(measured: Measured, widths: Numbers, sign: int) -> Numbers:
    """Return the residuals of the upper end, or with sign -1 of the lower; an end at one holds the truth."""
    assert measured.truths is not None
    outputs, truths = sign * measured.outputs, sign * measured.truths
    with np.errstate(divide="ignore", invalid="ignore"):
        residuals = np.where(truths == outputs, 0.0, (truths - outputs) / widths)
    while (is_short := outputs + offsets(widths, residuals) < truths).any():  # by the rounding of floats
        residuals = np.where(is_short, np.nextafter(residuals, np.inf), residuals)
    return residuals


def _sides(
    measured: Measured, promise: Promise, columns: Curves, *, relative: bool, symmetric: bool, exponent: float
) -> tuple[Side, Side]:
    widths = widths_of(measured, relative=relative, exponent=exponent)
    high, low = (_residuals(measured, widths, sign) for sign in (1, -1))
    if symmetric:
        high = low = np.maximum(high, low)
    return Side.of(promise, high, columns), Side.of(promise, low, columns)


def _best_exponent(
    measured: Measured, promise: Promise, columns: Curves, *, relative: bool, symmetric: bool
) -> float:
    """Return the exponent whose intervals are the narrowest on the selection images, 0 unless one pays."""
    means = {}
    for exponent in EXPONENTS:
        sides = _sides(measured, promise, columns, relative=relative, symmetric=symmetric, exponent=exponent)
        widths = widths_of(measured, relative=relative, exponent=exponent)
        limits = (side.limits(columns.covariates) for side in sides)
        means[exponent] = float(sum((widths * each).mean() for each in limits))
    best = min(means, key=lambda exponent: means[exponent])
    return best if means[best] <= PAYS * means[0.0] else 0.0
