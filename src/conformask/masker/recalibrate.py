"""Another promise from stored curves, without touching an image."""

from dataclasses import replace
from typing import TYPE_CHECKING

from conformask.calibration import evidence
from conformask.conformal.certainty import WholeTable
from conformask.conformal.presets import takes
from conformask.conformal.promise import Promise
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
from conformask.records.card import now

if TYPE_CHECKING:
    from conformask.masker.masker import Masker


def recalibrated(
    masker: "Masker",
    threshold: float | None,
    confidence: float | None,
    guarantee: str | None,
    delta: float | None,
) -> "Masker":
    """See `Masker.recalibrate`."""
    curves, card, before = masker.stored_curves(), masker.card, masker.guarantee
    name = before.name if guarantee is None else guarantee
    promise = promise_for(
        masker.distance,
        name,
        before.confidence if confidence is None and "confidence" in takes(name) else confidence,
        before.delta if delta is None and "delta" in takes(name) else delta,
    )
    promise, threshold = _fixed(masker, promise, positive(card.threshold if threshold is None else threshold))
    if (promise.name, promise.confidence, promise.delta, threshold) == (
        *(before.name, before.confidence, before.delta),
        card.threshold,
    ):
        return masker
    covered = isinstance(promise.certainty, WholeTable) and promise.name == before.name
    covered = covered and promise.delta == before.delta
    enough(promise, threshold, masker.distance, card.n_calibration, columns_kept(curves))
    closed_masks_pass(curves.distance[:, 0], threshold, card.distance)
    seen = evidence(curves, threshold, masker.distance)
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
    return replace(masker, rule=rule, card=card, critical_lambdas=seen.critical_lambdas)


def _fixed(masker: "Masker", promise: Promise, threshold: float) -> tuple[Promise, float]:
    """With the choices made before the calibration, or made again on the selection images."""
    if isinstance(promise.certainty, WholeTable):
        if masker.card.thresholds is None:
            raise InvalidArgumentError(
                "simultaneous thresholds are declared before a calibration: calibrate images with it"
            )
        table = replace(promise.certainty, thresholds=masker.card.thresholds)
        return replace(promise, certainty=table), table.snapped(threshold)
    if not promise.selects:
        return promise, threshold
    selection = masker.scorer.selection
    curves = None if selection is None else selection.curves.get(masker.family.name)
    if curves is None:
        raise InvalidArgumentError(f"{promise.name} takes choices on selection images, and none are kept")
    return promise.fixed(evidence(curves, threshold, masker.distance), masker.card.n_calibration), threshold
