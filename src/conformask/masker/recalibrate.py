"""Recalibration: another promise from stored curves, without reading any image."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from conformask.calibration import calibration_data
from conformask.conformal.certainty import Simultaneous
from conformask.conformal.presets import DEFAULTS, promise_of, takes
from conformask.conformal.promise import Promise
from conformask.conformal.rules import Rule
from conformask.errors import InvalidArgumentError
from conformask.masker.requirements import (
    check_sample_size,
    closed_masks_pass,
    columns_kept,
    hidden_by,
    hidden_share,
    sample_counts,
    warn_if_meant_otherwise,
)
from conformask.masker.resolve import refuse_unbounded
from conformask.records.card import CalibrationCard, now
from conformask.records.curves import Curves
from conformask.records.threshold import positive
from conformask.types import Loss


@dataclass(frozen=True)
class Recalibrated:
    """The parts of a masker that recalibration replaces."""

    rule: Rule
    card: CalibrationCard
    critical_lambdas: Float[np.ndarray, "n"]


@dataclass(frozen=True)
class PromiseChange:
    """The terms to change of a promise; None keeps the current value."""

    threshold: float | None = None
    confidence: float | None = None
    guarantee: str | None = None
    delta: float | None = None
    unit: str | None = None
    share: float | None = None
    within: bool | None = None

    def after(self, card: CalibrationCard) -> CalibrationCard:
        """Return the card with these terms; defaults that the new guarantee does not take are dropped."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        dropped = DEFAULTS.keys() - takes(self.guarantee or card.guarantee)
        if self.unit not in (None, "group"):
            dropped |= {"share"}
        return replace(card, **{**dict.fromkeys(dropped), **given})


def recalibrated(
    card: CalibrationCard, curves: Curves, loss: Loss, selection: Curves | None, asked: PromiseChange
) -> Recalibrated | None:
    """Return the card, rule and critical lambdas under another promise; None where it is the same.

    `selection` are the curves of the selection images, used for choices that must not see the calibration
    images.
    """
    before, threshold_before, card = promise_of(card), card.threshold, asked.after(card)
    promise, threshold, columns = promise_of(card), positive(card.threshold), columns_kept(curves)
    refuse_unbounded(promise, loss)
    warn_if_meant_otherwise(threshold, loss)
    if card.own_grid and promise.on_grid:
        raise InvalidArgumentError(
            f"guarantee {promise.name!r} needs a grid from selection images, but there were none: calibrate "
            "with this guarantee and selection="
        )
    same, table = promise == before, isinstance(promise.certainty, Simultaneous)
    if table:
        promise, threshold = _declared(promise, card.thresholds, threshold)
    if same and threshold == threshold_before:
        return None
    if promise.needs_selection and not table:
        if selection is None:
            raise InvalidArgumentError(
                f"guarantee {promise.name} needs choices on selection images, but none are kept: calibrate "
                "with selection="
            )
        units, _ = promise.counted(card.n_calibration, columns)
        promise = promise.fit_on_selection(calibration_data(selection, threshold, loss), units)
    covered = table and _whose(promise) == _whose(before)
    check_sample_size(promise, threshold, loss, card.n_calibration, columns)
    closed_masks_pass(curves.distance[:, 0], threshold, card.loss_name)
    seen = calibration_data(curves, threshold, loss)
    rule = promise.rule(seen)
    card = replace(
        card,
        threshold=threshold,
        confidence=promise.confidence,
        delta=promise.delta,
        guarantee=promise.name,
        claim=promise.claim(card.loss_name, threshold),
        rule=rule.to_json(),
        exact=False,
        exploratory=card.exploratory or not covered,
        hides=hidden_by(rule),
        hidden=hidden_share(curves, rule),
        **sample_counts(promise, curves),
        calibrated=now(),
    )
    return Recalibrated(rule, card, seen.critical_lambdas)


def _whose(promise: Promise) -> tuple[object, ...]:
    """Return the terms that a whole table of promises leaves fixed: all but threshold and confidence."""
    return promise.name, promise.delta, promise.unit, promise.population


def _declared(
    promise: Promise, thresholds: tuple[float, ...] | None, threshold: float
) -> tuple[Promise, float]:
    """Return the promise with the declared thresholds, and the largest of them up to `threshold`."""
    if thresholds is None or not isinstance(promise.certainty, Simultaneous):
        raise InvalidArgumentError(
            "the thresholds of a simultaneous promise are declared before a calibration: calibrate "
            "images with this guarantee"
        )
    table = replace(promise.certainty, thresholds=thresholds)
    return replace(promise, certainty=table), table.snapped(threshold)
