"""The dependence of lambda's budget on the mean score: a smaller budget for an image that looks hard.

With one lambda for all images, mostly the hard ones exceed the threshold. A lambda that falls slowly with the
mean score restores their coverage and costs hardly any mask size (docs/results/smaller-masks.md). Any factor
that depends on the score alone keeps masks nested, and so keeps the promise.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.errors import InvalidArgumentError
from conformask.masks.kernels import lambdas
from conformask.types import Images

KAPPA = -0.25
"""Default exponent of the mean score; for scores of errors to a power, it is divided by the power."""
PIXELS = 2**22
"""Number of pixels summed at once: torch converts all that it sums to float64."""


def check_kappa(kappa: float) -> None:
    """Refuse exponents of the mean score that would break scores near 0.

    Raises:
        InvalidArgumentError: kappa is not in [-1, 1].
    """
    if not -1 <= kappa <= 1:
        raise InvalidArgumentError(f"kappa: {kappa}; it must lie in [-1, 1], and 0 treats all images alike")


def shares(score: Images, kappa: float) -> Float[np.ndarray, "n"]:
    """Return mean(score)^kappa of each image, float64; 1 where the score is 0 everywhere."""
    if kappa == 0:
        return np.ones(len(score))
    parts = torch.split(score.flatten(1), PIXELS, dim=1)
    sums = torch.stack([part.sum(dim=1, dtype=torch.float64) for part in parts]).sum(dim=0)
    return _of_means((sums / max(1, score[:1].numel())).cpu().numpy(), kappa)


def share_of_total(total: float, pixels: int, kappa: float) -> float:
    """Return mean(score)^kappa of one image, as `shares` does, from the sum of its score."""
    return float(_of_means(np.array([total / max(1, pixels)]), kappa)[0])


def spent(score: Images, lam: Tensor, kappa: float) -> Float[np.ndarray, "n g"]:
    """Return lam, (N,) or (N, G), times mean(score)^kappa of its image; float64, G = 1 for shape (N,).

    Raises:
        InvalidArgumentError: the number of rows is not that of the scores, or a lambda is negative or NaN.
    """
    return np.asarray(lambdas(lam, len(score)) * shares(score, kappa)[:, None])


def _of_means(means: Float[np.ndarray, "n"], kappa: float) -> Float[np.ndarray, "n"]:
    return np.where(means > 0, means, 1.0) ** kappa
