"""Recalibration: another promise from stored curves, without reading any image."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from conformask.calibration import calibration_data, start_of
from conformask.conformal.certainty import Simultaneous
from conformask.conformal.curves import Curves
from conformask.conformal.guarantee import Guarantee
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
from conformask.records.threshold import positive
from conformask.types import Loss


@dataclass(frozen=True)
class Recalibrated:
    """The parts of a masker that recalibration replaces."""

    rule: Rule
    card: CalibrationCard
    critical_lambdas: Float[np.ndarray, "n"]


def recalibrated(
    card: CalibrationCard,
    curves: Curves,
    loss: Loss,
    selection: Curves | None,
    threshold: float,
    stated: Promise,
) -> Recalibrated | None:
    """Return the card, rule and critical lambdas under another promise; None where it is the same.

    `selection` are the curves of the selection images, used for choices that must not see the calibration
    images.
    """
    before, threshold_before = card.promise.resolve(), card.threshold
    promise, threshold, columns = stated.resolve(), positive(threshold), columns_kept(curves)
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
    start = card.start if selection is None else start_of(selection, threshold, promise, loss)
    if promise.needs_selection and not table:
        if selection is None:
            raise InvalidArgumentError(
                f"guarantee {promise.name} needs choices on selection images, but none are kept: calibrate "
                "with selection="
            )
        units, _ = promise.counted(card.n_calibration, columns)
        promise = promise.fit_on_selection(calibration_data(selection, threshold, loss, start=start), units)
    covered = table and _whose(promise) == _whose(before)
    check_sample_size(promise, threshold, loss, card.n_calibration, columns)
    closed_masks_pass(curves.loss[:, 0], threshold, card.loss.name)
    seen = calibration_data(curves, threshold, loss, start=start)
    rule = promise.rule(seen)
    hidden = hidden_share(curves, rule)
    card = replace(
        card,
        threshold=threshold,
        promise=replace(stated, weight=None),
        claim=promise.claim(card.loss.name, threshold),
        rule=rule.to_json(),
        start=start,
        exact=False,
        exploratory=card.exploratory or not covered,
        hides=hidden_by(rule, hidden),
        # maskers of conformask 0.2 kept the shares of images alone
        hidden=hidden if (card.loss.region or card.loss.of_objects) == (curves.hidden is not None) else None,
        **sample_counts(promise, curves),
        calibrated=now(),
    )
    return Recalibrated(rule, card, seen.critical_lambdas)


def _whose(promise: Guarantee) -> tuple[object, ...]:
    """Return the terms that a whole table of promises leaves fixed: all but threshold and confidence."""
    return promise.name, promise.delta, promise.unit, promise.population


def _declared(
    promise: Guarantee, thresholds: tuple[float, ...] | None, threshold: float
) -> tuple[Guarantee, float]:
    """Return the promise with the declared thresholds, and the largest of them up to `threshold`."""
    if thresholds is None or not isinstance(promise.certainty, Simultaneous):
        raise InvalidArgumentError(
            "the thresholds of a simultaneous promise are declared before a calibration: calibrate "
            "images with this guarantee"
        )
    table = replace(promise.certainty, thresholds=thresholds)
    return replace(promise, certainty=table), table.snapped(threshold)
