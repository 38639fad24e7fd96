"""The score that learns nothing: how much y_hat varies around each pixel."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from conformask.arithmetic import image_means
from conformask.types import Images, PerImage

WINDOW = 7
"""Pixels along a side."""


def local_spread(x: Images, y_hat: Images) -> Images:
    """The standard deviation of y_hat in a window around each pixel, (N, 1, *space): the mean over channels.

    Takes any (x, y_hat), for Heuristic(local_spread, channels). Networks err most at edges and in textures,
    so a trained score should give smaller masks than this one.
    """
    half, dimensions = WINDOW // 2, y_hat.ndim - 2
    pooled = {2: F.avg_pool2d, 3: F.avg_pool3d}[dimensions]
    padded = F.pad(y_hat, (half, half) * dimensions, mode="replicate")
    mean, square = pooled(padded, WINDOW, 1), pooled(padded**2, WINDOW, 1)
    return (square - mean**2).clamp(min=0).sqrt().mean(dim=1, keepdim=True)


@dataclass(frozen=True)
class Spread:
    """Reads local_spread as a network's output; fitted for no loss, and nothing to train."""

    name: ClassVar[str] = "spread"
    family: ClassVar[str] = "water_filling"
    fitted_for: ClassVar[None] = None
    start: ClassVar[float] = 0.0

    def outputs(self, channels: int, per_channel: bool) -> int:
        """One, whatever the channels of the score."""
        return 1

    def loss(self, output: Images, y: Images, y_hat: Images) -> PerImage:
        """How far it is from the mean error: what training would minimise."""
        return image_means((output - (y - y_hat).abs().mean(dim=1, keepdim=True)).square())

    def score(self, output: Images) -> Images:
        """The output."""
        return output


class SpreadNetwork(nn.Module):
    """local_spread in the place of a network: of the last channels of 2 * (x, y_hat) - 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, 1, *space)."""
        y_hat = (inputs[:, -self.channels :] + 1) / 2
        return local_spread(inputs, y_hat)
