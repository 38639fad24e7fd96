"""Scores that learn nothing: what a trained one has to beat."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conformask.arithmetic import image_means, resized
from conformask.networks.any_channels import compared
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


def residual(x: Images, y_hat: Images) -> Images:
    """|x - y_hat|, (N, 1, *space): the mean over channels; x is brought to the size of y_hat.

    Of an x with more or fewer channels those that `compared` takes, for Heuristic(residual, channels).
    """
    change: Images = (compared(resized(x, y_hat), y_hat.shape[1]) - y_hat).abs()
    return change.mean(dim=1, keepdim=True)


def gradient(x: Images, y_hat: Images) -> Images:
    """How far a pixel of y_hat is from its neighbours along all axes together, (N, 1, *space).

    The mean over channels of the sum of absolute differences, for Heuristic(gradient, channels).
    """
    total = torch.zeros_like(y_hat)
    for axis in range(2, y_hat.ndim):
        steps, edge = y_hat.diff(dim=axis).abs(), torch.zeros_like(y_hat.narrow(axis, 0, 1))
        total = total + torch.cat([steps, edge], dim=axis) + torch.cat([edge, steps], dim=axis)
    return total.mean(dim=1, keepdim=True)


SIMPLE: Mapping[str, Callable[[Images, Images], Images]] = {
    "spread": local_spread,
    "residual": residual,
    "gradient": gradient,
}
"""By the names that runs and the command line have for them."""


@dataclass(frozen=True)
class Simple:
    """Reads a simple score as a network's output; fitted for no loss, and nothing to train."""

    name: str
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


class SimpleNetwork(nn.Module):
    """A simple score in the place of a network: of 2 * (x, y_hat) - 1, y_hat being the last channels."""

    def __init__(self, name: str, channels: int) -> None:
        super().__init__()
        self.name, self.channels = name, channels

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, 1, *space)."""
        images = (inputs + 1) / 2
        return SIMPLE[self.name](images[:, : -self.channels], images[:, -self.channels :])
