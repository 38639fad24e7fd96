"""Calibration: from a scorer and triplets that it has not seen to a masker."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from conformask.calibration import critical_lambdas
from conformask.conformal.guarantees import guarantee as guarantee_by_name
from conformask.data.triplets import Triplets
from conformask.errors import CalibrationError, InvalidArgumentError, MismatchError
from conformask.masker.masker import Masker
from conformask.masker.matching import distance_for, family_for
from conformask.masker.promise import enough, now, rule_for
from conformask.masker.thresholds import threshold_of
from conformask.results import CalibrationCard
from conformask.scorers.dataset import Survey, survey
from conformask.scorers.fit import selection_record
from conformask.scorers.scoring import scored
from conformask.types import Distance, Family, Scorer


def calibrate(
    scorer: Scorer,
    calibration: Triplets,
    *,
    threshold: float | str,
    confidence: float = 0.9,
    family: str | Family | None = None,
    guarantee: str = "marginal",
    selection: Triplets | None = None,
    distance: str | Distance | Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Masker:
    """Find the lambda with which masks keep the promise.

    Args:
        scorer: from fit_scorer, or any Scorer.
        calibration: triplets that neither the scorer nor the predictor has seen.
        threshold: the largest masked distance wanted (the paper's alpha), or "q0.1": the 0.1-quantile of
            the unmasked distance on the selection images.
        confidence: with which probability (the paper's beta).
        family: a name or an object; the scorer's own if None.
        guarantee: "marginal".
        selection: triplets for the grid and for q-thresholds, instead of those that the scorer keeps.
        distance: for a scorer that was fitted for none.

    Raises:
        InvalidArgumentError: an argument outside what is allowed.
        CalibrationError: the promise cannot be given; says what it would need.
        MismatchError: images or a distance that the scorer was not fitted for.
        ImageError: an image that cannot be used.
    """
    wanted = guarantee_by_name(guarantee, confidence)
    used = distance_for(scorer, distance)
    chosen = family_for(scorer, used, family)
    enough(wanted, len(calibration))
    seen = survey(calibration, "reading calibration images")
    chosen_on = () if selection is None else survey(selection, "reading selection images").hashes
    _refuse_unfit(scorer, calibration, seen, frozenset(chosen_on))
    kept = scorer.selection if selection is None else selection_record(scorer, selection, used, [chosen])
    level = threshold_of(threshold, kept)
    grid = kept.curves[chosen.name].grid if kept is not None and chosen.name in kept.curves else None
    if grid is None and used.exponent is None:
        raise InvalidArgumentError(f"distance {used.name!r} needs a grid for {chosen.name}: pass selection=")
    points = np.array([0.0, np.inf]) if grid is None else grid
    found = critical_lambdas(scored(scorer, calibration, "calibrating"), chosen, used, points, level)
    rule = rule_for(wanted, found.critical_lambdas, level, used.name)
    card = CalibrationCard(
        threshold=level,
        confidence=confidence,
        guarantee=wanted.name,
        distance=used.name,
        family=chosen.settings(),
        rule=rule.to_json(),
        exact=found.exact,
        exploratory=False,
        n_calibration=len(calibration),
        channels=seen.channels,
        sizes=seen.sizes,
        data_range=calibration.data_range,
        population=calibration.provenance.population,
        calibrated=now(),
        calibrated_on=tuple(sorted(seen.hashes)),
    )
    curves = None if grid is None else found.curves
    return Masker(scorer, used, chosen, rule, card, found.critical_lambdas, curves)


def _refuse_unfit(scorer: Scorer, calibration: Triplets, seen: Survey, chosen_on: frozenset[str]) -> None:
    known = scorer.trained_on | chosen_on | frozenset(calibration.provenance.trained_on)
    leaked = known.intersection(seen.hashes)
    if leaked:
        raise CalibrationError(
            f"{len(leaked)} of {len(calibration)} calibration images were used to train or select the "
            "scorer or the predictor; the promise needs images that neither has seen"
        )
    if len(set(calibration.groups)) < len(calibration):
        raise CalibrationError(
            f"{len(calibration)} images in {len(set(calibration.groups))} groups are dependent: the marginal "
            "promise needs one image a group; keep one of each, or promise new tiles of these files "
            "(--split within)"
        )
    if seen.channels != scorer.channels:
        raise MismatchError(
            f"the scorer takes y_hat with {scorer.channels} channels, these have {seen.channels}"
        )
    if scorer.sizes is not None and not set(seen.sizes) <= set(scorer.sizes):
        raise MismatchError(
            f"the scorer was trained on images of {list(scorer.sizes)}, these have {list(seen.sizes)}: "
            "cut or scale them alike, or train another"
        )
