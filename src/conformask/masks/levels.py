"""The budgets of levels, levels in operations of an ONNX graph, and masks up to a boundary.

The budget is lambda times a power of the mean score. With one lambda for all images, mostly the hard ones
exceed the threshold. A lambda that falls slowly with the mean score restores their coverage and costs hardly
any mask size (docs/results/smaller-masks.md). Any factor that depends on the score alone keeps masks nested,
and so keeps the promise.

A graph has no compiled kernels, no loops, no branches on values. Sums are float64 and levels are rounded down
to float32, as in the kernels. The exporter writes constants in float32, in which 1e-200 would become 0 and
1 + 1e-12 would become 1: such bounds are written with constants that float32 can hold.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arithmetic import image_means, per_image
from conformask.errors import InvalidArgumentError
from conformask.masks.kernels import NOISE, lambdas
from conformask.types import Images, PerImage

KAPPA = -0.25
"""Default exponent of the mean score; for scores of errors to a power, it is divided by the power."""
PIXELS = 2**22
"""Number of pixels summed at once: torch converts all that it sums to float64."""
TO_NEXT = 2.0**24
"""A positive float32 minus 1 / TO_NEXT of itself is the next smaller float32."""
LARGEST = torch.finfo(torch.float32).max


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


def within_noise(total: Float[Tensor, "n p"], budget: Float[Tensor, "n 1"]) -> Tensor:
    """Return total <= budget * (1 + NOISE), in operations of the graph."""
    return total - budget <= budget / (1 / NOISE)


def shares_in_graph(score: Images, kappa: float) -> PerImage:
    """Return mean(score)^kappa, float64; 1 where the score is 0 everywhere."""
    mean = image_means(score.double())
    return torch.where(mean > 0, mean, 1.0) ** kappa


def rounded_down_in_graph(values: PerImage) -> PerImage:
    """Round to float32, never above the float64 value."""
    rounded = values.float()
    return torch.where(rounded.double() > values, rounded - rounded.clamp(max=LARGEST) / TO_NEXT, rounded)


def up_to(score: Images, level: Float[Tensor, "n 2"]) -> Images:
    """Return 1 below the boundary score, the fraction at it, 0 above; the level holds both."""
    s = score.float()
    boundary, fraction = (per_image(part, s) for part in level.to(s.device, torch.float32).unbind(1))
    return torch.where(s < boundary, 1.0, torch.where(s == boundary, fraction, 0.0))
