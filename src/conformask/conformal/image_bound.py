"""Bounds per image: how far an output differs from the truth at most, without a mask.

Conformal quantile regression (Romano, Patterson and Candes 2019) of the log unmasked loss on features of the
score. Marginal over images; if images are in groups, over a random image of a new group.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from conformask.conformal.curves import Curves
from conformask.conformal.lambdas import LogLinear, fit_log_quantile, zero
from conformask.conformal.order import ROUNDING
from conformask.storage.as_arrays import Array

PerImage = Float[np.ndarray, "n"]


@dataclass(frozen=True)
class ImageBound:
    """The bound exp(h(features) + shift) on the unmasked loss of an image, with this confidence."""

    h: LogLinear
    shift: float
    confidence: float

    def __call__(self, features: Float[np.ndarray, "n f"]) -> PerImage:
        """Return the bound of each image."""
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(self.h(features) + self.shift))


def fit_loss_quantile(features: Float[np.ndarray, "n f"], losses: PerImage, confidence: float) -> LogLinear:
    """Fit h, the confidence-quantile of the log unmasked loss given the features, on selection images."""
    usable = losses > 0
    return fit_log_quantile(features[usable], losses[usable], confidence)


def calibrated_bound(calibration: Curves, h: LogLinear | None, confidence: float) -> ImageBound | None:
    """Calibrate the shift of the bound; None where images are too few or have no features."""
    if calibration.features is None:
        return None
    # without a regression the bound is one constant, exp(shift), valid all the same
    quantile = h or zero(calibration.features)
    with np.errstate(divide="ignore"):
        excess = np.log(calibration.loss[:, -1]) - quantile(calibration.features)
    shift = _quantile(excess, _equal_group_weights(calibration.group, len(excess)), confidence)
    return ImageBound(quantile, shift, confidence) if shift < np.inf else None


def _quantile(values: PerImage, weights: PerImage, confidence: float) -> float:
    """Return the least value up to which weights, with one more unit at infinity, reach the confidence."""
    order = np.argsort(values, kind="stable")
    reached = weights[order].cumsum() >= confidence * (weights.sum() + 1) - ROUNDING
    return float(values[order[reached.argmax()]]) if reached.any() else np.inf


def _equal_group_weights(groups: Array | None, n: int) -> PerImage:
    """Return weights of the images that add up to 1 in each group."""
    if groups is None:
        return np.ones(n)
    _, group_index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(1 / counts[group_index])
