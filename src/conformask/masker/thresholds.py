"""Choice of a threshold: on the selection images or, after a calibration, on its images."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from conformask.errors import CalibrationError, InvalidArgumentError
from conformask.images.triplets import Triplets
from conformask.losses import AnyLoss
from conformask.losses.base import Loss
from conformask.masker.checks import check_sample_size, refuse_unbounded
from conformask.masker.masker import Masker
from conformask.masker.request import AnyScorer, Request
from conformask.masker.resolve import ask, family_for, loss_for, prepare, with_selection
from conformask.masks.critical import size_at
from conformask.masks.family import Family
from conformask.promises.order import Curves
from conformask.promises.promise import AnyPromise, Promise, promise as promise_from
from conformask.records.loss import is_same
from conformask.records.record import Array
from conformask.records.selection import Selection, level_of
from conformask.scores.level import along_levels, fit_level, may_have_level
from conformask.scores.scorer import Scorer
from conformask.scores.scoring import selection_record

LISTED_QUANTILES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class ThresholdChoice:
    """The effect of a threshold, judged on the selection images or, if exploratory, on the calibration's."""

    threshold: float
    pass_rate: float
    """The share of images that need no mask."""
    mask_size: float
    exploratory: bool = False
    """True if a promise with this threshold, chosen now, would not hold: the calibration images chose it."""


def threshold_choices(
    scorer: AnyScorer | Masker,
    *,
    promise: AnyPromise | None = None,
    family: str | Family | None = None,
    patches: int | str | None = None,
    loss: AnyLoss | None = None,
    selection: Triplets | None = None,
) -> list[ThresholdChoice]:
    """Return mask size and unmasked pass rate for several thresholds, on selection images.

    Args:
        scorer: the scorer to be calibrated; or a masker, with no other argument than promise, whose
            calibration images are used, as exploratory, where it keeps too few selection images.
        promise: as for `calibrate`; if None, marginal, or that of the masker.
        family: as for `calibrate`.
        patches: as for `calibrate`, for given selection images.
        loss: as for `calibrate`, for given selection images.
        selection: images that will not calibrate; if None, those that the scorer keeps.

    Raises:
        InvalidArgumentError: none are given, and the scorer keeps none.
        CalibrationError: too few selection images for this confidence.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> train, selection = images.select(range(10)), images.select(range(10, 30))
        >>> scorer = cm.fit_scorer(train, selection=selection, out="run", scorer="residual")
        >>> choices = cm.threshold_choices(scorer)
        >>> choices[0].mask_size >= choices[-1].mask_size
        True
    """
    if isinstance(scorer, Masker):
        if any(choice is not None for choice in (family, patches, loss, selection)):
            raise InvalidArgumentError(
                "a masker has its own family, patches, loss and images: leave them out"
            )
        return _choices_of_masker(scorer, scorer.card.promise if promise is None else promise)
    stated = promise or "marginal"
    if selection is not None:
        asked = Request(scorer, None, loss, stated, family, patches, selection=selection)
        return choices_of(asked, selection).choices
    used, guarantee = loss_for(scorer, loss), promise_from(stated)
    refuse_unbounded(guarantee, used)
    trained, record = with_selection(scorer)
    return _choices_of_record(record, trained, family_for(trained, used, family), used, guarantee)


class Choices(NamedTuple):
    """The effect of thresholds, and the loss that they are about."""

    choices: list[ThresholdChoice]
    loss: Loss


def choices_of(request: Request, images: Triplets) -> Choices:
    """Return the effect of thresholds on the selection images of a request, or on all where it has none."""
    asked = ask(request, images)
    _, scorer, used, family = prepare(asked)
    shown, levels = asked.selection or asked.images, may_have_level(scorer)
    record = selection_record(scorer, shown, used, [family], levels=levels)
    return Choices(_choices_of_record(record, scorer, family, used, asked.promise), used)


def _choices_of_record(
    record: Selection, scorer: Scorer, family: Family, used: Loss, guarantee: Promise
) -> list[ThresholdChoice]:
    if family.name not in record.curves:
        raise InvalidArgumentError(f"no selection images are kept for the family {family.name}")
    curves = record.curves[family.name]

    def along(threshold: float) -> Curves:
        may = may_have_level(scorer)
        model = fit_level(record, family, used, guarantee, threshold) if may else None
        return curves if model is None else along_levels(curves, model, family)

    return _choices(curves, record.unmasked_loss, guarantee, used, "selection", along)


def _choices_of_masker(masker: Masker, promise: AnyPromise) -> list[ThresholdChoice]:
    used, guarantee, record = masker.loss, promise_from(promise), masker.scorer.selection
    refuse_unbounded(guarantee, used)
    if record is not None and is_same(record.of, used) and masker.family.name in record.curves:
        with suppress(CalibrationError):  # too few of them
            kept = record.curves[masker.family.name]
            return _choices(kept, record.unmasked_loss, guarantee, used, "selection")
    curves, exploratory = masker.stored_curves(), masker.card.thresholds is None
    choices = _choices(curves, curves.loss[:, -1], guarantee, used, "calibration")
    return [replace(choice, exploratory=exploratory) for choice in choices]


def _choices(
    curves: Curves,
    unmasked: Array,
    guarantee: Promise,
    used: Loss,
    part: str,
    along: Callable[[float], Curves] | None = None,
) -> list[ThresholdChoice]:
    """Return the choices; `along` returns the curves with the levels of a threshold."""
    thresholds = [fraction * level_of("q0.1", unmasked) for fraction in (0.25, 0.5)]
    thresholds += [level_of(f"q{quantile}", unmasked) for quantile in LISTED_QUANTILES]
    choices = []
    for level in sorted({t for t in thresholds if t > 0}):
        check_sample_size(guarantee, level, used, len(unmasked), curves.columns, part)
        size = size_at(curves if along is None else along(level), level, guarantee, used)
        choices.append(ThresholdChoice(level, float((unmasked <= level).mean()), size))
    return choices
