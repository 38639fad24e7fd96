"""Resolution of arguments: every choice of a calibration, made before one of its images is looked at."""

from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

import numpy as np

from conformask.errors import InvalidArgumentError, chosen
from conformask.images.triplets import Triplets, refuse_others
from conformask.losses import AnyLoss, loss, stored_loss
from conformask.losses.base import Loss
from conformask.masker.choices import Choices, made_on_selection
from conformask.masker.guards import check_sample_size, check_threshold, refuse_noisy, refuse_unbounded
from conformask.masks.families import Settings, family as family_by_name
from conformask.masks.family import Family
from conformask.promises.promise import AnyPromise, Promise, promise as promise_from
from conformask.records.names import GIVEN, WITHOUT_TRAINING, Level
from conformask.records.selection import Selection, is_quantile, threshold_in_loss, threshold_of
from conformask.scores.benchmark import on_selection
from conformask.scores.level import FEWEST, Levelled, along_levels, fit_level, may_have_level
from conformask.scores.scorer import Scorer, as_scorer, for_loss, in_patches, tiled as tiled_scorer
from conformask.scores.untrained import BY_VALUE, GREY, Given, Untrained, check_scorer

AnyScorer = Scorer | Untrained | Given
"""A scorer, or what makes one for given images."""
AnyFamily = Settings | Family | None
"""The name of a family, its settings, or itself; None for the one that suits score and loss."""


def resolve(
    scorer: AnyScorer,
    images: Triplets,
    threshold: float | str,
    loss: AnyLoss | None,
    promise: AnyPromise,
    family: AnyFamily,
    patches: int | str | None,
    level: Level | None,
    selection: Triplets | None,
) -> Choices:
    """Make the choices of a calibration from the arguments of `calibrate`, which has their meaning."""
    check_scorer(scorer)
    if level is not None:
        chosen({name: name for name in get_args(Level)}, level, "level")
    refuse_others(images, selection)
    is_measured = is_quantile(threshold)
    promise, used = promise_from(promise), loss_for(scorer, loss, images)
    threshold = threshold_in_loss(threshold, used, images.values)
    if not is_measured:
        check_threshold(float(threshold), used, 1 if images.values is None else images.values.span)
    refuse_unbounded(promise, used)
    refuse_noisy(promise, used, images.reference)
    shown = images if selection is None else selection
    used = used.fitted_to(shown, shown.reference)
    used.check_images(images.has, in_patches=patches is not None)
    used.check_values(images.values)
    trained, scorer = scorer_for(scorer, images, used, patches, selection)
    if scorer.name not in WITHOUT_TRAINING:
        images.check_made_by(scorer.about, "the scorer")
    used_family = family_for(scorer, used, family)
    record = scorer.selection
    if selection is not None:
        levels = may_have_level(scorer, level)
        scorer, record = on_selection(scorer, trained, selection, used, used_family, threshold, levels=levels)
    elif record is not None and not record.of.is_same(used):
        record = None
    scorer, record = levelled(scorer, used, used_family, promise, record, threshold, level)
    columns = images.columns | ({} if promise.weight is None else {"weight": np.ones(len(images))})
    units, _ = promise.counted(len(images), columns)
    choices = made_on_selection(scorer, used, used_family, promise, threshold, record, units)
    check_sample_size(choices.promise, choices.threshold, used, len(images), columns)
    return choices


def scorer_for(
    scorer: AnyScorer,
    images: Triplets,
    used: Loss,
    patches: int | str | None,
    selection: Triplets | None,
    *,
    tiled: bool = False,
) -> tuple[Scorer, Scorer]:
    """Return the scorer for these images, by tiles if `tiled`, and with the steps of loss and patches."""
    if isinstance(scorer, Given):
        trained: Scorer = scorer.of(images, selection, used)
    else:
        trained = scorer.of(images, used) if isinstance(scorer, Untrained) else as_scorer(scorer)
    trained = tiled_scorer(trained, images.dimensions) if tiled else trained
    return trained, in_patches(for_loss(trained, used), images.patch_area(patches))


def with_selection(scorer: AnyScorer) -> tuple[Scorer, Selection]:
    """Return a scorer without its level, and what it keeps of selection images."""
    if isinstance(scorer, Untrained | Given) or (kept := as_scorer(scorer).selection) is None:
        raise InvalidArgumentError("this scorer keeps no selection images to choose a threshold on")
    return as_scorer(scorer), kept


def family_for(scorer: Scorer, used: Loss, choice: AnyFamily) -> Family:
    """Return the chosen family (by name or settings), or the loss's, or where it has none the scorer's."""
    if choice == "grey":
        choice = _grey(scorer, used)
    elif choice is None and scorer.by_value and (used.family or {}).get("name") == "binary":
        choice = BY_VALUE
    if not (choice is None or isinstance(choice, str | Mapping)):
        return choice
    settings = choice or used.family or scorer.family
    if scorer.name == GIVEN and settings in ("reciprocal", {"name": "reciprocal"}):
        settings = GREY
    return family_by_name(settings, used.exponent or 1.0)


def _grey(scorer: Scorer, used: Loss) -> Settings:
    """Return the family of grey masks for the loss, as up to conformask 0.2."""
    binary = used.family or {}
    if binary.get("name") != "binary":
        return used.family or scorer.family
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
        used = used.with_pixels(images.window).in_regions(images.has_regions)
    kept = None if scorer.selection is None else scorer.selection.of
    return used if kept is None else used.measured_as(kept)
