"""Resolution of a request: every choice of a calibration, made before one of its images is looked at."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from conformask.errors import InvalidArgumentError
from conformask.images.triplets import Triplets, refuse_others
from conformask.losses import AnyLoss, loss, stored_loss
from conformask.losses.base import Loss, fitted_loss, measured_as
from conformask.masker import guards
from conformask.masker.case import Asked, Case
from conformask.masker.choices import made_on_selection
from conformask.masker.request import AnyFamily, AnyScorer, Request
from conformask.masks.families import Settings, family as family_by_name
from conformask.masks.family import Family
from conformask.promises.promise import Promise, promise as promise_from
from conformask.records.loss import is_same
from conformask.records.names import GIVEN, Level
from conformask.records.selection import Selection, threshold_in_loss, threshold_of
from conformask.scores.benchmark import on_selection
from conformask.scores.level import FEWEST, Levelled, along_levels, fit_level, may_have_level
from conformask.scores.scorer import Scorer, as_scorer, for_loss, in_patches, tiled as tiled_scorer
from conformask.scores.untrained import BY_VALUE, GREY, Given, Untrained


def resolve(request: Request, images: Triplets) -> Case:
    """Make the choices of a calibration, on the selection images where these are needed."""
    asked = ask(request, images)
    threshold, promise = asked.threshold, asked.promise
    if threshold is None:
        raise InvalidArgumentError("no threshold is given: a promise needs one")
    trained, scorer, used, family = prepare(asked)
    record = scorer.selection
    if asked.selection is not None:
        levels = may_have_level(scorer, request.level)
        scorer, record = on_selection(
            scorer, trained, asked.selection, used, family, threshold, levels=levels
        )
    elif record is not None and not is_same(record.of, used):
        record = None
    scorer, record = levelled(scorer, used, family, promise, record, threshold, request.level)
    columns = asked.images.columns | (
        {} if promise.weight is None else {"weight": np.ones(len(asked.images))}
    )
    units, _ = promise.counted(len(asked.images), columns)
    return made_on_selection(asked, scorer, used, family, threshold, record, units)


def ask(request: Request, images: Triplets) -> Asked:
    """State a request about images in the terms of the project; refuse it where nothing can come of it."""
    refuse_others(images, None if isinstance(request.selection, str) else request.selection)
    used = loss_for(request.scorer, request.loss, images)
    calibration, selection = parts_for(request, used, images)
    threshold = request.threshold
    if threshold is not None:
        threshold = threshold_in_loss(threshold, used, images.values)
    asked = Asked(request, calibration, selection, used, promise_from(request.promise), threshold)
    guards.at(guards.ASKED, asked)
    return asked


def parts_for(request: Request, used: Loss, images: Triplets) -> tuple[Triplets, Triplets | None]:
    """Return the calibration images and those for other choices, which a request states or leaves to us."""
    if not isinstance(request.selection, str):
        return images, request.selection
    scorer, kept = request.scorer, request.scorer.selection
    if isinstance(scorer, Untrained | Given) or kept is None or not is_same(kept.of, used):
        return images.set_aside()
    family = family_for(as_scorer(scorer), used, request.family)
    if request.patches is not None or family.name not in kept.curves:
        return images.set_aside()
    return images.part("calibration"), None


class Prepared(NamedTuple):
    """What scores images and measures them."""

    trained: Scorer
    """The scorer before the steps that loss and patches add."""
    scorer: Scorer
    loss: Loss
    family: Family


def prepare(asked: Asked) -> Prepared:
    """Fit loss and scorer to the images, of which none is scored."""
    shown = asked.images if asked.selection is None else asked.selection
    used = fitted_loss(asked.loss, shown, shown.reference)
    request = asked.request
    trained = scorer_for(request.scorer, asked.images, used, asked.selection)
    trained = tiled_scorer(trained, asked.images.dimensions) if request.tiled else trained
    scorer = in_patches(for_loss(trained, used), asked.images.patch_area(request.patches))
    return Prepared(trained, scorer, used, family_for(scorer, used, request.family))


def scorer_for(scorer: AnyScorer, images: Triplets, used: Loss, selection: Triplets | None) -> Scorer:
    """Return the scorer for these images, before the steps that loss and patches add."""
    if isinstance(scorer, Given):
        return scorer.of(images, selection, used)
    return scorer.of(images, used) if isinstance(scorer, Untrained) else as_scorer(scorer)


def with_selection(scorer: AnyScorer) -> tuple[Scorer, Selection]:
    """Return a scorer without its level, and what it keeps of selection images."""
    if isinstance(scorer, Untrained | Given) or (kept := as_scorer(scorer).selection) is None:
        raise InvalidArgumentError("this scorer keeps no selection images to choose a threshold on")
    return as_scorer(scorer), kept


def family_for(scorer: Scorer, used: Loss, choice: AnyFamily) -> Family:
    """Return the chosen family (by name or settings), or the loss's, or where it has none the scorer's."""
    if choice == "grey":
        choice = _grey(scorer, used)
    elif choice is None and scorer.by_value and (used.traits.family or {}).get("name") == "binary":
        choice = BY_VALUE
    if not (choice is None or isinstance(choice, str | Mapping)):
        return choice
    settings = choice or used.traits.family or scorer.family
    if scorer.name == GIVEN and settings in ("reciprocal", {"name": "reciprocal"}):
        settings = GREY
    return family_by_name(settings, used.traits.exponent or 1.0)


def _grey(scorer: Scorer, used: Loss) -> Settings:
    """Return the family of grey masks for the loss, as up to conformask 0.2."""
    binary = used.traits.family or {}
    if binary.get("name") != "binary":
        return used.traits.family or scorer.family
    if binary["bounds"] == "largest":
        raise InvalidArgumentError(
            f"{used.name!r} counts every pixel with a mask above 0 as shown, and grey masks are hardly "
            "ever 0: leave out --grey (family='grey')"
        )
    if binary["bounds"] == "mean":
        return "trusted_mean"
    stated = {key: value for key, value in binary.items() if key == "kappa"}
    return {"name": "water_filling", **stated} if stated else scorer.family


def levelled(
    scorer: Scorer,
    loss: Loss,
    family: Family,
    promise: Promise,
    record: Selection | None,
    threshold: float | str,
    choice: Level | None,
) -> tuple[Scorer, Selection | None]:
    """Return the scorer with a level for each image, and the selection images along it, where that is chosen.

    If None is chosen, that is where it predicts critical lambdas better than one value.
    """
    if not may_have_level(scorer, choice):
        return scorer, record
    curves = None if record is None else record.curves.get(family.name)
    if record is not None and curves is not None:
        model = fit_level(record, family, loss, promise, threshold_of(threshold, record))
        if model is not None:
            record = replace(record, curves={family.name: along_levels(curves, model, family)})
            return Levelled(scorer, model, record), record
    if choice == "image":
        n = 0 if record is None else len(record.unmasked_loss)
        raise InvalidArgumentError(
            f"level image: of {n} selection images, the features of an image predict its critical lambda "
            f"hardly better than one value does. It takes {FEWEST} or more (selection=); or leave level out"
        )
    return scorer, record


def loss_for(
    scorer: Scorer | Untrained | Given, choice: AnyLoss | None, images: Triplets | None = None
) -> Loss:
    """Return the loss that was chosen, for these images; the default is that of the scorer.

    A score may be used for any loss: the promise holds, but masks may be larger than with a score that was
    fitted for it. Where a scorer was fitted for none, the loss of its selection images is meant.
    """
    used = scorer.loss if choice is None else loss(choice)
    if used is None and scorer.selection is not None:
        used = stored_loss(scorer.selection.of)
    if used is None:
        raise InvalidArgumentError("this scorer was fitted for no loss: pass loss=")
    if images is not None:
        used = used.prepared(images).in_regions(images.has_regions)
    kept = None if scorer.selection is None else scorer.selection.of
    return used if kept is None else measured_as(used, kept)
