"""Levels in operations that an ONNX graph has: no compiled kernels, no loops, no branches on values.

Sums are float64 and levels are rounded down to float32, as in the kernels. The exporter writes constants in
float32, so that 1e-200 would be 0 and 1 + 1e-12 would be 1: such bounds are written with constants that
float32 holds.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arithmetic import image_means
from conformask.masks.kernels import NOISE
from conformask.types import Images, PerImage

TO_NEXT = 2.0**24
"""A positive float32 less its part of that is the next smaller one."""
LARGEST = torch.finfo(torch.float32).max


def within_noise(total: Float[Tensor, "n 1"], budget: Float[Tensor, "n 1"]) -> Tensor:
    """total <= budget * (1 + NOISE)."""
    return total - budget <= budget / (1 / NOISE)


def shares_in_graph(score: Images, kappa: float) -> PerImage:
    """mean(score)^kappa, float64; 1 where there is no score."""
    mean = image_means(score.double())
    return torch.where(mean > 0, mean, 1.0) ** kappa


def rounded_down(values: PerImage) -> PerImage:
    """As float32, not above the float64 value."""
    rounded = values.float()
    return torch.where(rounded.double() > values, rounded - rounded.clamp(max=LARGEST) / TO_NEXT, rounded)
