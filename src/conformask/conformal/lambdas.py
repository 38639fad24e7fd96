"""Constant or adaptive lambda: one for all images, or one for each."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.crossing import between_grid_points
from conformask.conformal.quantile_regression import LogLinear, constant, quantile_regression

IMAGES_A_COEFFICIENT = 10
"""Selection images needed per coefficient; with fewer a constant is fitted."""


@dataclass(frozen=True)
class Constant:
    """One lambda for all images of a population."""

    says: ClassVar[str] = ""
    reads: ClassVar[frozenset[str]] = frozenset()
    needs_selection: ClassVar[bool] = False
    ends: ClassVar[str] = ""


@dataclass(frozen=True)
class Adaptive:
    """A lambda that follows how hard an image looks: exp(h(features)), shifted by the calibration images.

    h is a low quantile of log critical lambda given the features, fitted on selection images.
    """

    h: LogLinear | None = None
    """The regression, fitted on the selection images."""
    says: ClassVar[str] = "with an adaptive lambda"
    reads: ClassVar[frozenset[str]] = frozenset({"features"})
    needs_selection: ClassVar[bool] = True
    ends: ClassVar[str] = "; lambda follows how hard an image looks"

    def fit_on_selection(self, selection: CalibrationData, confidence: float) -> "Adaptive":
        """Fit h to the selection images whose critical lambda is neither 0 nor inf."""
        features, curves = selection.column("features"), selection.curves
        critical = between_grid_points(curves.grid, curves.loss, selection.threshold)
        usable = (critical > 0) & np.isfinite(critical)
        fit = quantile_regression
        if usable.sum() < IMAGES_A_COEFFICIENT * (features.shape[1] + 1):
            fit = constant
        return replace(self, h=fit(features[usable], np.log(critical[usable]), 1 - confidence))


Lambda = Constant | Adaptive
