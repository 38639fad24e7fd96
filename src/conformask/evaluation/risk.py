"""The error that is left when a share of an image is hidden, by its score and at best."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.calibration import like_score
from conformask.types import Images

SHARES = tuple(round(0.05 * step, 2) for step in range(20))
"""Hidden shares at which the error is measured."""


def risk_curves(
    score: Images, y: Images, y_hat: Images, region: Images | None
) -> Float[np.ndarray, "n 2 shares"]:
    """Return the mean |y - y_hat| of what is shown at each of SHARES, float64.

    First with the pixels of the largest scores hidden, then with those of the largest errors, which is the
    least that any score can leave (the sparsification curves of Ilg et al. 2018). With a region, shares and
    means are those of its pixels.
    """
    errors = like_score((y - y_hat).abs(), score).double()
    inside = torch.ones_like(score) if region is None else region.expand_as(score)
    curves = []
    for of_image, error, weight in zip(score, errors, inside, strict=True):
        here = weight > 0
        curves.append([_left(order, error[here]) for order in (of_image[here], error[here])])
    return np.array(curves)


def _left(order: Tensor, errors: Tensor) -> list[float]:
    """Return the mean of the errors that are left at each share, the largest of `order` hidden first."""
    sums = errors[order.argsort(descending=True, stable=True)].cumsum(0)
    hidden = [int(share * len(errors)) for share in SHARES]
    total = float(sums[-1])
    return [(total - (float(sums[k - 1]) if k else 0.0)) / (len(errors) - k) for k in hidden]
