"""Choices of a calibration that must not see its images: made on the selection images."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from conformask.errors import InvalidArgumentError
from conformask.images.triplets import Triplets
from conformask.losses.base import Loss
from conformask.masker.guards import warn_if_another_hides_less, warn_if_meant_otherwise
from conformask.masks.critical import calibration_data, loss_on, start_of
from conformask.masks.family import Family
from conformask.promises.axes import LogLinear
from conformask.promises.order import between_grid_points, refined
from conformask.promises.promise import DEFAULTS, Promise
from conformask.promises.rules import fit_loss_quantile
from conformask.records.names import WITHOUT_TRAINING, Level
from conformask.records.selection import Selection, level_of, threshold_of
from conformask.scores.benchmark import ScoreBenchmark, warn_if_useless
from conformask.scores.level import FEWEST, Levelled, along_levels, fit_level, may_have_level
from conformask.scores.network_scorer import NetworkScorer
from conformask.scores.scorer import Scorer
from conformask.scores.scoring import scored, selection_record, spread_over_groups
from conformask.scores.steps import for_loss
from conformask.scores.untrained import GivenScorer


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


def on_selection(
    scorer: Scorer,
    trained: Scorer,
    selection: Triplets,
    loss: Loss,
    family: Family,
    threshold: float | str,
    level: Level | None,
) -> tuple[Scorer, Selection]:
    """Return the record of given selection images, and the scorer, compared with others where that says more.

    `trained` is the scorer before the steps that loss and patches add.
    """
    levels = may_have_level(scorer, level)
    some = scored(scorer, spread_over_groups(selection), "grids")
    items = [replace(item, known_loss=(loss, loss_on(item, loss))) for item in some]
    record = selection_record(scorer, selection, loss, [family], levels=levels, items=items)
    is_compared = scorer.name in WITHOUT_TRAINING and scorer.patches is None
    if not (isinstance(trained, NetworkScorer | GivenScorer) and is_compared):
        return scorer, record
    stated, known = level_of(threshold, record.unmasked_loss), (trained.name, items)
    benchmark = ScoreBenchmark.on(selection, loss, family, stated, known)
    # none where there are too few images
    comparison = None if benchmark is None else benchmark.compare(trained)
    if comparison is not None:
        warn_if_useless(comparison, trained.name)
    record = replace(record, comparison=comparison)
    return for_loss(replace(trained, selection=record), loss), record


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


def made_on_selection(
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
