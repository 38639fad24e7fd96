"""Likelihood ratios of images, for a weighted promise."""

import numpy as np
from jaxtyping import Float

from conformask.errors import InvalidArgumentError
from conformask.types import Array, Batch, Weigh


def weights_of(weigh: Weigh, batch: Batch) -> Float[np.ndarray, "n"]:
    """The callable's likelihood ratios.

    Raises:
        InvalidArgumentError: it does not give one finite number above 0 for each image.
    """
    return checked_weights(weigh(batch.x, batch.y_hat).detach().double().cpu().numpy(), len(batch.names))


def checked_weights(values: Array, n: int) -> Float[np.ndarray, "n"]:
    """The values, if they are weights of n images.

    Raises:
        InvalidArgumentError: they are not n finite numbers above 0; a weight that is NaN or negative would
            open the whole mask.
    """
    if values.shape != (n,) or not (np.isfinite(values) & (values > 0)).all():
        raise InvalidArgumentError(
            f"weight= must give a finite number above 0 for each of {n} images, "
            f"not {values.shape} values from {values.min():g} to {values.max():g}"
        )
    return values
