"""Likelihood ratios of images, for a weighted promise."""

import warnings

import numpy as np
from jaxtyping import Float

from conformask.conformal.crossing import SLACK
from conformask.errors import ConformaskWarning, InvalidArgumentError
from conformask.storage.as_arrays import Array
from conformask.types import Batch, Weigh


def weights_of(weigh: Weigh, batch: Batch) -> Float[np.ndarray, "n"]:
    """Compute the likelihood ratios of a batch with the user's callable.

    Raises:
        InvalidArgumentError: the callable does not give one finite number above 0 for each image.
    """
    return checked_weights(weigh(batch.x, batch.y_hat).detach().double().cpu().numpy(), len(batch.names))


def checked_weights(values: Array, n: int) -> Float[np.ndarray, "n"]:
    """Return the values after checking that they are weights of n images.

    Raises:
        InvalidArgumentError: the values are not n finite numbers above 0; NaN or a negative weight would
            open the whole mask.
    """
    if values.shape != (n,) or not (np.isfinite(values) & (values > 0)).all():
        raise InvalidArgumentError(
            f"weight= must give a finite number above 0 for each of {n} images, "
            f"not {values.shape} values from {values.min():g} to {values.max():g}"
        )
    return values


def warn_of_scale(weights: Float[np.ndarray, "n"], calibrated: tuple[float, float] | None) -> None:
    """Warn of weights outside the range of the calibration's, which may be on another scale."""
    if calibrated is None:
        return
    low, high = calibrated
    outside = weights[(weights < low * (1 - SLACK)) | (weights > high * (1 + SLACK))]
    if outside.size:
        warnings.warn(
            f"a weight of {outside[0]:g} is outside the range of the calibration weights, {low:g} to "
            f"{high:g}: weights are known up to a constant factor, which must be the same for both",
            category=ConformaskWarning,
            stacklevel=4,
        )
