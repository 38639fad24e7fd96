"""Choices of a calibration that must not see its images: made on the selection images."""

from conformask.errors import InvalidArgumentError
from conformask.losses.base import Loss
from conformask.masker.case import Asked, Case
from conformask.masks.critical import calibration_data, start_of
from conformask.masks.family import Family
from conformask.promises.axes import fit_loss_quantile
from conformask.promises.order import between_grid_points, refined
from conformask.promises.promise import DEFAULTS
from conformask.records.selection import Selection, quantile_of, threshold_of
from conformask.scores.scorer import Scorer


def made_on_selection(
    asked: Asked,
    scorer: Scorer,
    loss: Loss,
    family: Family,
    threshold: float | str,
    record: Selection | None,
    units: int,
) -> Case:
    """Make every choice that must not see the calibration images on the selection images."""
    promise, level = asked.promise, threshold_of(threshold, record)
    curves = None if record is None else record.curves.get(family.name)
    if curves is None and (not loss.traits.monotone or promise.on_grid or promise.needs_selection):
        what = f"guarantee {promise.guarantee!r}" if loss.traits.monotone else f"loss {loss.name!r}"
        kept = "there are none" if record is None else f"the scorer has none for {family.name} masks"
        raise InvalidArgumentError(
            f"{what} needs selection images for a grid and other choices, but {kept}: pass selection="
        )
    start = start_of(curves, level, promise, loss)
    if curves is not None and promise.needs_selection:
        promise = promise.fit_on_selection(calibration_data(curves, level, loss, start=start), units)
    grid = None if curves is None else curves.grid
    if (
        curves is not None
        and promise.confidence is not None
        and (promise.on_grid or not loss.traits.monotone)
    ):
        # finer near the expected lambda, which is one of its points
        begun = curves.from_start(start)
        expected = between_grid_points(begun.grid, begun.loss, level)
        grid = refined(curves.grid, expected, promise.confidence)
    image_errors = None
    if curves is not None and curves.features is not None:
        # the unmasked loss of the selection images, regressed on the features of their scores
        confidence = promise.confidence or DEFAULTS["confidence"]
        image_errors = fit_loss_quantile(curves.features, curves.loss[:, -1], confidence)
    return Case(
        asked.images, asked.selection, scorer, loss, family, promise, level, quantile_of(threshold), curves,
        grid, start, image_errors,
    )  # fmt: skip
