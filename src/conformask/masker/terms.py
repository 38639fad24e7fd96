"""What a card says of a promise and its rule: after a calibration, and after a recalibration."""

from dataclasses import replace
from typing import Any

from conformask.arrays import Array
from conformask.errors import InvalidArgumentError
from conformask.images.scan import DatasetSummary
from conformask.images.triplets import Triplets
from conformask.losses.base import Loss
from conformask.masker.case import Measured
from conformask.masker.checks import (
    check_sample_size,
    check_threshold,
    closed_masks_pass,
    refuse_unbounded,
)
from conformask.masks.critical import calibration_data, start_of
from conformask.promises.axes import Simultaneous, Weighted
from conformask.promises.order import Curves
from conformask.promises.promise import Promise
from conformask.promises.rules import CategoryLambda, Rule
from conformask.records.card import EVERY_CALIBRATION_IMAGE, EVERY_IMAGE, CalibrationCard, Domain, now
from conformask.records.extent import IMAGE
from conformask.scores.level import Levelled
from conformask.scores.scorer import Scorer

WHOLE = "whole images"
"""The population of a promise about images that are scored by tiles."""


def domain_of(calibration: Triplets, seen: DatasetSummary, scorer: Scorer) -> Domain:
    """Return the images that a promise is about: those like the calibration images, `seen` of them."""
    tiles = scorer.tiles
    return Domain(
        read=calibration.reading,
        channels=seen.channels,
        sizes=seen.sizes,
        population=calibration.provenance.population or (tiles and WHOLE),
        tiles=tiles,
        network=calibration.network,
        geometry=seen.geometry,
        range_of_x=calibration.range_of("x"),
        range_of_y_hat=calibration.range_of("y_hat"),
        clipped=seen.clipped,
        cues_made=calibration.provenance.cues if scorer.cue_channels else None,
        turned=calibration.turned,
    )


def card_of(measured: Measured, rule: Rule) -> CalibrationCard:
    """Return the card of a calibration: its promise, and the images that it rests on."""
    case, seen, chosen_on = measured.case, measured.scanned.seen, measured.scanned.chosen_on
    promise, curves = case.promise, measured.curves
    certainty = promise.axes.certainty
    seen_ids = {*seen.image_ids, *(() if chosen_on is None else chosen_on.image_ids)}
    return CalibrationCard(
        **vars(domain_of(case.images, seen, case.scorer)),
        **_terms(promise, case.loss, case.threshold, case.start, curves, rule),
        loss=case.loss,
        family=case.family.settings(),
        exact=case.loss.traits.monotone and not promise.on_grid,
        exploratory=False,
        threshold_quantile=case.threshold_quantile,
        thresholds=certainty.thresholds if isinstance(certainty, Simultaneous) else None,
        n_calibration=len(case.images),
        weights=None if curves.weight is None else (float(curves.weight.min()), float(curves.weight.max())),
        repeats=case.images.reference.repeats,
        calibrated_on=seen.truth_ids,
        seen=tuple(sorted(seen_ids - {*seen.truth_ids})),
        patches=case.scorer.patches,
        level="image" if isinstance(case.scorer, Levelled) else "one",
        image_errors=case.image_errors,
        code=measured.fingerprints,
        own_grid=measured.own_grid,
    )


def _terms(
    promise: Promise, loss: Loss, threshold: float, start: float, curves: Curves, rule: Rule
) -> dict[str, Any]:
    """Return what a card says of a promise that this rule keeps, made from these curves."""
    population = promise.axes.population
    hidden = curves.hidden_at(rule(curves.covariates))
    n_groups = promise.axes.unit.count(len(curves.names), curves.columns) if promise.by_group else None
    n_effective = population.effective_size(curves.columns) if isinstance(population, Weighted) else None
    return {
        "threshold": threshold,
        # without choices made on selection images, or a callable
        "promise": replace(promise, weight=None, t=0.0, thresholds=()),
        "claim": promise.claim(loss.name, threshold),
        "rule": rule,
        "start": start,
        "n_groups": n_groups,
        "n_effective": n_effective,
        "hides": _hidden_by(rule, hidden),
        "hidden": hidden,
        "calibrated": now(),
    }


def _hidden_by(rule: Rule, hidden: float) -> str | None:
    """Describe the images that a rule hides completely; None if there are none.

    `hidden` is the mean mask size of the calibration images; the others it hides whatever they look like.
    """
    if not rule.is_vacuous:
        return EVERY_CALIBRATION_IMAGE if hidden == 1 else None
    lambdas = rule.lambdas if isinstance(rule, CategoryLambda) else {}
    closed = [category for category, lam in lambdas.items() if lam <= 0]
    if len(closed) == len(lambdas):
        return EVERY_IMAGE
    return f"{EVERY_IMAGE} of category {', '.join(closed)}"


def recalibrated(
    card: CalibrationCard,
    loss: Loss,
    curves: Curves,
    selection: Curves | None,
    threshold: float,
    promise: Promise,
) -> tuple[CalibrationCard, Array] | None:
    """Return card and critical lambdas under another promise; None where it is the same.

    `curves` are those of the calibration images, `selection` those of the selection images, where kept.
    """
    before = card.promise
    refuse_unbounded(promise, loss)
    check_threshold(threshold, loss, 1 if card.values is None else card.values.span)
    if card.own_grid and promise.on_grid:
        raise InvalidArgumentError(
            f"guarantee {promise.guarantee!r} needs a grid from selection images, but there were none: "
            "calibrate with this guarantee and selection="
        )
    same = (promise.guarantee, promise.axes) == (before.guarantee, before.axes)
    table = isinstance(promise.axes.certainty, Simultaneous)
    if table:
        promise, threshold = _declared(promise, card.thresholds, threshold)
    if same and threshold == card.threshold:
        return None
    start = card.start if selection is None else start_of(selection, threshold, promise, loss)
    if promise.needs_selection and not table:
        if selection is None:
            raise InvalidArgumentError(
                f"guarantee {promise.guarantee} needs choices on selection images, but none are kept: "
                "calibrate with selection="
            )
        units, _ = promise.counted(card.n_calibration, curves.columns)
        evidence = calibration_data(selection, threshold, loss, start=start)
        promise = promise.fit_on_selection(evidence, units)
    covered = table and _fixed_terms(promise) == _fixed_terms(before)
    check_sample_size(promise, threshold, loss, card.n_calibration, curves.columns)
    closed_masks_pass(curves.loss[:, 0], threshold, card.loss.name)
    seen = calibration_data(curves, threshold, loss, start=start)
    terms = _terms(promise, loss, threshold, start, curves, promise.rule(seen))
    is_of_images = card.loss.extent == IMAGE
    if is_of_images != (curves.hidden is None):  # maskers of 0.2 kept the shares of images alone
        terms["hidden"] = None
    terms["threshold_quantile"] = card.threshold_quantile if threshold == card.threshold else None
    exploratory = card.exploratory or not covered
    return replace(card, **terms, exact=False, exploratory=exploratory), seen.critical_lambdas


def _declared(
    promise: Promise, thresholds: tuple[float, ...] | None, threshold: float
) -> tuple[Promise, float]:
    """Return the promise with the declared thresholds, and the largest of them up to `threshold`."""
    declared = replace(promise, thresholds=thresholds or ())
    certainty = declared.axes.certainty
    if thresholds is None or not isinstance(certainty, Simultaneous):
        raise InvalidArgumentError(
            "the thresholds of a simultaneous promise are declared before a calibration: calibrate "
            "images with this guarantee"
        )
    return declared, certainty.snapped(threshold)


def _fixed_terms(promise: Promise) -> tuple[object, ...]:
    """Return the terms that a whole table of promises leaves fixed: all but threshold and confidence."""
    return promise.guarantee, promise.delta, promise.axes.unit, promise.axes.population
