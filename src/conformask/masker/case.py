"""A calibration as it is known stage by stage: asked for, resolved, scanned, measured, issued."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from conformask.arrays import Array, Batch
from conformask.images.scan import DatasetSummary
from conformask.images.triplets import Triplets
from conformask.losses.base import Loss
from conformask.masker.admission import appearance
from conformask.masker.arguments import weights_of
from conformask.masker.components import Components
from conformask.masker.request import Request
from conformask.masks.critical import measures
from conformask.masks.family import Family
from conformask.promises.axes import LogLinear
from conformask.promises.order import CalibrationData, Curves
from conformask.promises.promise import Promise
from conformask.records.card import CalibrationCard
from conformask.scores.scorer import Scorer


@dataclass(frozen=True)
class Asked:
    """A request about images, in the terms of the project, before an image is read or scored."""

    request: Request
    images: Triplets
    """The calibration images."""
    selection: Triplets | None
    """The images for other choices; None where there are none, or the scorer keeps the curves of some."""
    loss: Loss
    promise: Promise
    threshold: float | str | None
    """A value of the loss, or a quantile of the losses of the selection images."""


@dataclass(frozen=True)
class Case:
    """A calibration with all its choices, made before one of its images is looked at."""

    images: Triplets
    selection: Triplets | None
    scorer: Scorer
    loss: Loss
    family: Family
    promise: Promise
    """The promise with what was chosen on the selection images."""
    threshold: float
    threshold_quantile: float | None
    """The quantile of the losses of selection images that the threshold is; None where it was given."""
    selection_curves: Curves | None
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


@dataclass(frozen=True)
class Scanned:
    """A case whose images were read once."""

    case: Case
    seen: DatasetSummary
    """What was found in the calibration images."""
    chosen_on: DatasetSummary | None
    """What was found in the selection images, if they were given."""


@dataclass(frozen=True)
class Measured:
    """A case whose calibration images were scored and measured."""

    scanned: Scanned
    curves: Curves
    losses: CalibrationData
    own_grid: bool
    """True if the grid was made from calibration images."""
    fingerprints: Mapping[str, str]
    """Fingerprints of the code, by argument name."""
    probe: Mapping[str, Any]
    """Values that this code computed on a test image."""

    @property
    def case(self) -> Case:
        """The case."""
        return self.scanned.case


@dataclass(frozen=True)
class Issued:
    """A case with the card of its promise."""

    measured: Measured
    card: CalibrationCard
