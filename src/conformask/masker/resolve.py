"""Resolution of arguments: every choice of a calibration, made before one of its images is looked at."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from conformask.errors import InvalidArgumentError
from conformask.images.scan import columns_of
from conformask.images.triplets import Triplets
from conformask.losses import AnyLoss, loss, stored_loss
from conformask.losses.base import Loss
from conformask.masker.guards import (
    check_sample_size,
    refuse_noisy,
    refuse_unbounded,
    warn_if_another_hides_less,
    warn_if_meant_otherwise,
)
from conformask.masks.critical import calibration_data, loss_on, start_of
from conformask.masks.families import family as family_by_name
from conformask.masks.family import Family
from conformask.promises.axes import LogLinear
from conformask.promises.order import between_grid_points, refined
from conformask.promises.promise import DEFAULTS, AnyPromise, Promise
from conformask.promises.promise import promise as promise_from
from conformask.promises.rules import fit_loss_quantile
from conformask.records.names import Level
from conformask.records.reading import check_network
from conformask.records.record import Json
from conformask.records.selection import (
    Selection,
    is_quantile,
    level_of,
    threshold_in_loss,
    threshold_of,
)
from conformask.scores.benchmark import WITHOUT_TRAINING, ScoreBenchmark, warn_if_useless
from conformask.scores.given import BY_VALUE, GREY, Given, GivenScorer
from conformask.scores.given import NAME as GIVEN
from conformask.scores.level import FEWEST, Levelled, along_levels, fit_level, may_have_level
from conformask.scores.network_scorer import NetworkScorer
from conformask.scores.scorer import Scorer
from conformask.scores.scoring import scored, selection_record, spread_over_groups
from conformask.scores.steps import for_loss, in_patches, patch_area
from conformask.scores.untrained import Untrained, for_images

AnyScorer = Scorer | Untrained | Given
"""A scorer, or what makes one for given images."""
AnyFamily = str | Mapping[str, Json] | Family | None
"""The name of a family, its settings, or itself; None for the one that suits score and loss."""


@dataclass(frozen=True)
class Choices:
    """All choices of a calibration, made before one of its images is looked at."""

    scorer: Scorer
    loss: Loss
    family: Family
    promise: Promise
    """The promise with what was chosen on the selection images."""
    threshold: float
    grid: Float[np.ndarray, "g"] | None
    """Lambdas for the curves; None where there are no selection images to choose them on."""
    start: float
    """The lambda from which on masks open, see `start_of`."""
    image_errors: LogLinear | None


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
    *,
    allow_network_mismatch: bool,
) -> Choices:
    """Make the choices of a calibration from the arguments of `calibrate`, which has their meaning."""
    is_quantile(threshold)
    promise, used = promise_from(promise), loss_for(scorer, loss, images)
    threshold = threshold_in_loss(threshold, used, images.values)
    refuse_unbounded(promise, used)
    refuse_noisy(promise, used, images.reference)
    shown = images if selection is None else selection
    used = used.fitted_to(shown, shown.reference)
    used.check_images(images.has, in_patches=patches is not None)
    used.check_values(images.values)
    trained = for_images(scorer, images, used, selection)
    scorer = in_patches(for_loss(trained, used), patch_area(patches, images))
    if scorer.name not in WITHOUT_TRAINING:
        check_network(
            scorer.about, images.network, "the scorer", allow_network_mismatch=allow_network_mismatch
        )
    used_family = family_for(scorer, used, family)
    record = scorer.selection
    if selection is not None:
        levels = may_have_level(scorer, level)
        some = scored(scorer, spread_over_groups(selection), "grids")
        items = [replace(item, known_loss=(used, loss_on(item, used))) for item in some]
        record = selection_record(scorer, selection, used, [used_family], levels=levels, items=items)
        is_compared = scorer.name in WITHOUT_TRAINING and scorer.patches is None
        if isinstance(trained, NetworkScorer | GivenScorer) and is_compared:
            stated, known = level_of(threshold, record.unmasked_loss), (trained.name, items)
            # none where there are too few images
            benchmark = ScoreBenchmark.on(selection, used, used_family, stated, known)
            comparison = None if benchmark is None else benchmark.compare(trained)
            if comparison is not None:
                warn_if_useless(comparison, trained.name)
            record = replace(record, comparison=comparison)
            scorer = for_loss(replace(trained, selection=record), used)
    elif record is not None and not record.of.is_same(used):
        record = None
    scorer, record = _levelled(scorer, used, used_family, promise, record, threshold, level)
    columns = columns_of(images) | ({} if promise.weight is None else {"weight": np.ones(len(images))})
    units, _ = promise.counted(len(images), columns)
    choices = _made_on_selection(scorer, used, used_family, promise, threshold, record, units)
    check_sample_size(choices.promise, choices.threshold, used, len(images), columns)
    return choices


def _levelled(
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


def _made_on_selection(
    scorer: Scorer,
    loss: Loss,
    family: Family,
    promise: Promise,
    threshold: float | str,
    record: Selection | None,
    units: int,
) -> Choices:
    """Make every choice that must not see the calibration images on the selection images."""
    level = threshold_of(threshold, record)
    warn_if_meant_otherwise(level, loss)
    curves = None if record is None else record.curves.get(family.name)
    if curves is None and (not loss.monotone or promise.on_grid or promise.needs_selection):
        what = f"guarantee {promise.guarantee!r}" if loss.monotone else f"loss {loss.name!r}"
        raise InvalidArgumentError(
            f"{what} needs selection images for a grid and other choices, but none are kept for "
            f"{family.name}: pass selection="
        )
    warn_if_another_hides_less(curves, level, promise, loss)
    start = start_of(curves, level, promise, loss)
    if curves is not None and promise.needs_selection:
        promise = promise.fit_on_selection(calibration_data(curves, level, loss, start=start), units)
    grid = None if curves is None else curves.grid
    if curves is not None and promise.confidence is not None and (promise.on_grid or not loss.monotone):
        # finer near the expected lambda, which is one of its points
        begun = curves.from_start(start)
        expected = between_grid_points(begun.grid, begun.loss, level)
        grid = refined(curves.grid, expected, promise.confidence)
    image_errors = None
    if curves is not None and curves.features is not None:
        # the unmasked loss of the selection images, regressed on the features of their scores
        confidence = promise.confidence or DEFAULTS["confidence"]
        image_errors = fit_loss_quantile(curves.features, curves.loss[:, -1], confidence)
    return Choices(scorer, loss, family, promise, level, grid, start, image_errors)


def family_for(scorer: Scorer, used: Loss, choice: str | Mapping[str, Json] | Family | None) -> Family:
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


def _grey(scorer: Scorer, used: Loss) -> str | Mapping[str, Json]:
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
