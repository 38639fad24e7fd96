"""Another promise from stored curves, without touching an image."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from conformask.calibration import evidence
from conformask.conformal.certainty import WholeTable
from conformask.conformal.presets import guarantee as guarantee_by_name
from conformask.conformal.presets import takes
from conformask.conformal.promise import Promise
from conformask.conformal.rules import Rule
from conformask.errors import InvalidArgumentError
from conformask.masker.matching import promise_for
from conformask.masker.requirements import (
    closed_masks_pass,
    columns_kept,
    enough,
    positive,
    rule_for,
    sample_of,
)
from conformask.records.card import CalibrationCard, now
from conformask.records.curves import Curves
from conformask.types import Distance


@dataclass(frozen=True)
class Recalibrated:
    """What changes of a masker."""

    rule: Rule
    card: CalibrationCard
    critical_lambdas: Float[np.ndarray, "n"]


def recalibrated(
    card: CalibrationCard,
    curves: Curves,
    distance: Distance,
    selection: Curves | None,
    threshold: float | None = None,
    confidence: float | None = None,
    guarantee: str | None = None,
    delta: float | None = None,
) -> Recalibrated | None:
    """The card and curves of a calibration under another promise; None where it is the same.

    What is not given stays. `selection` are the curves of the selection images, for choices made on them.
    """
    before = guarantee_by_name(card.guarantee, card.confidence, card.delta)
    name = before.name if guarantee is None else guarantee
    promise = promise_for(
        distance,
        name,
        before.confidence if confidence is None and "confidence" in takes(name) else confidence,
        before.delta if delta is None and "delta" in takes(name) else delta,
    )
    threshold = positive(card.threshold if threshold is None else threshold)
    table = isinstance(promise.certainty, WholeTable)
    if table:
        promise, threshold = _declared(promise, card.thresholds, threshold)
    if (_terms(promise), threshold) == (_terms(before), card.threshold):
        return None
    if promise.selects and not table:
        if selection is None:
            raise InvalidArgumentError(f"{promise.name} takes choices on selection images, and none are kept")
        promise = promise.fixed(evidence(selection, threshold, distance), card.n_calibration)
    covered = table and (promise.name, promise.delta) == (before.name, before.delta)
    enough(promise, threshold, distance, card.n_calibration, columns_kept(curves))
    closed_masks_pass(curves.distance[:, 0], threshold, card.distance)
    seen = evidence(curves, threshold, distance)
    rule = rule_for(promise, seen, card.distance)
    card = replace(
        card,
        threshold=threshold,
        confidence=promise.confidence,
        delta=promise.delta,
        guarantee=promise.name,
        claim=promise.claim(card.distance, threshold),
        rule=rule.to_json(),
        exact=False,
        exploratory=card.exploratory or not covered,
        **sample_of(promise, curves),
        calibrated=now(),
    )
    return Recalibrated(rule, card, seen.critical_lambdas)


def _terms(promise: Promise) -> tuple[str, float | None, float | None]:
    return promise.name, promise.confidence, promise.delta


def _declared(
    promise: Promise, thresholds: tuple[float, ...] | None, threshold: float
) -> tuple[Promise, float]:
    """With the thresholds that were declared before the calibration, and the largest up to this one."""
    if thresholds is None or not isinstance(promise.certainty, WholeTable):
        raise InvalidArgumentError(
            "simultaneous thresholds are declared before a calibration: calibrate images with it"
        )
    table = replace(promise.certainty, thresholds=thresholds)
    return replace(promise, certainty=table), table.snapped(threshold)
