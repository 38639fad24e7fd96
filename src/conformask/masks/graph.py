"""Levels in operations of an ONNX graph: no compiled kernels, no loops, no branches on values.

Sums are float64 and levels are rounded down to float32, as in the kernels. The exporter writes constants in
float32, in which 1e-200 would become 0 and 1 + 1e-12 would become 1: such bounds are written with constants
that float32 can hold.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arithmetic import image_means
from conformask.masks.kernels import NOISE
from conformask.types import Images, PerImage

TO_NEXT = 2.0**24
"""A positive float32 minus 1 / TO_NEXT of itself is the next smaller float32."""
LARGEST = torch.finfo(torch.float32).max


def within_noise(total: Float[Tensor, "n 1"], budget: Float[Tensor, "n 1"]) -> Tensor:
    """Return total <= budget * (1 + NOISE), in operations of the graph."""
    return total - budget <= budget / (1 / NOISE)


def shares_in_graph(score: Images, kappa: float) -> PerImage:
    """Return mean(score)^kappa, float64; 1 where the score is 0 everywhere."""
    mean = image_means(score.double())
    return torch.where(mean > 0, mean, 1.0) ** kappa


def rounded_down(values: PerImage) -> PerImage:
    """Round to float32, never above the float64 value."""
    rounded = values.float()
    return torch.where(rounded.double() > values, rounded - rounded.clamp(max=LARGEST) / TO_NEXT, rounded)
