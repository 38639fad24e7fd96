"""Choices of a calibration that must not see its images: made on the selection images."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from conformask.arrays import Array, Batch
from conformask.errors import InvalidArgumentError
from conformask.losses.base import Loss
from conformask.masker.admission import appearance
from conformask.masker.arguments import weights_of
from conformask.masker.components import Components
from conformask.masker.guards import check_threshold, warn_if_another_hides_less
from conformask.masks.critical import calibration_data, measures, start_of
from conformask.masks.family import Family
from conformask.promises.axes import LogLinear, fit_loss_quantile
from conformask.promises.order import between_grid_points, refined
from conformask.promises.promise import DEFAULTS, Promise
from conformask.records.selection import Selection, quantile_of, threshold_of
from conformask.scores.scorer import Scorer


@dataclass(frozen=True)
class Choices:
    """All choices of a calibration, made before one of its images is looked at."""

    scorer: Scorer
    loss: Loss
    family: Family
    promise: Promise
    """The promise with what was chosen on the selection images."""
    threshold: float
    threshold_quantile: float | None
    """The quantile of the losses of selection images that the threshold is; None where it was given."""
    grid: Float[np.ndarray, "g"] | None
    """Lambdas for the curves; None where there are no selection images to choose them on."""
    start: float
    """The lambda from which on masks open, see `start_of`."""
    image_errors: LogLinear | None

    @property
    def code(self) -> Components:
        """The components that masks and the promise are computed with."""
        return Components(self.scorer, self.loss, self.family, self.promise.weight)

    def measures(self, item: Batch, grid: Float[np.ndarray, "g"]) -> dict[str, Array]:
        """Measure scored calibration images: losses along the grid, looks, and weights where they count."""
        bounded, weigh = self.promise.own_bounds, self.promise.weight
        columns = measures(item, self.family, self.loss, grid, self.threshold, bounded=bounded)
        columns |= {"appearance": appearance(item)}
        return columns if weigh is None else columns | {"weight": weights_of(weigh, item)}


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
    level, quantile = threshold_of(threshold, record), quantile_of(threshold)
    if quantile is not None:  # others were checked before anything was scored
        check_threshold(level, loss)
    curves = None if record is None else record.curves.get(family.name)
    if curves is None and (not loss.monotone or promise.on_grid or promise.needs_selection):
        what = f"guarantee {promise.guarantee!r}" if loss.monotone else f"loss {loss.name!r}"
        kept = "there are none" if record is None else f"the scorer has none for {family.name} masks"
        raise InvalidArgumentError(
            f"{what} needs selection images for a grid and other choices, but {kept}: pass selection="
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
    return Choices(scorer, loss, family, promise, level, quantile, grid, start, image_errors)
