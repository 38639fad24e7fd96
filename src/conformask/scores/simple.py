"""Scores that learn nothing: baselines that a trained score has to beat."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conformask.arrays import Images, PerImage, image_means, resized
from conformask.scores.networks import averaged, compared, mean_of

WINDOW = 7
"""Side of the window in pixels."""


def local_spread(x: Images, y_hat: Images) -> Images:
    """Compute the standard deviation of y_hat in a window around each pixel, (N, 1, *space).

    That is sqrt(mean(v^2) - mean(v)^2) of the values v of y_hat in [0, 1], over 7 pixels along each axis,
    where the pixels at the borders of the image are repeated, and averaged over channels. Takes any
    (x, y_hat), for Heuristic(local_spread, channels); on the command line it is --scorer spread. Networks err
    most at edges and in textures, so a trained score should give smaller masks than this one.

    Examples:
        >>> import torch
        >>> import conformask as cm
        >>> cm.local_spread(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """
    mean, square = map(_window_means, (y_hat, y_hat**2))
    return (square - mean**2).clamp(min=0).sqrt().mean(dim=1, keepdim=True)


def _window_means(images: Images) -> Images:
    """Average over the window around each pixel along all axes; shape of images."""
    means, half = averaged(images, WINDOW), WINDOW // 2
    if images.ndim < 5:
        return means
    around = F.pad(means, (0, 0, 0, 0, half, half), mode="replicate")
    return mean_of([around[:, :, at : at + images.shape[2]] for at in range(WINDOW)])


def residual(x: Images, y_hat: Images) -> Images:
    """Compute |x - y_hat|, (N, 1, *space), averaged over channels; x is resized to the size of y_hat.

    If x has more or fewer channels than y_hat, those that `compared` selects are used. For
    Heuristic(residual, channels).

    Examples:
        >>> import torch
        >>> import conformask as cm
        >>> cm.residual(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).mean()
        tensor(1.)
    """
    change: Images = (compared(resized(x, y_hat), y_hat.shape[1]) - y_hat).abs()
    return change.mean(dim=1, keepdim=True)


def gradient(x: Images, y_hat: Images) -> Images:
    """Compute how far each pixel of y_hat is from its neighbours along all axes, (N, 1, *space).

    It is the mean over channels of the sum of absolute differences, for Heuristic(gradient, channels).

    Examples:
        >>> import torch
        >>> import conformask as cm
        >>> cm.gradient(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).mean()
        tensor(0.)
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
"""Simple scores by their names in run folders and on the command line."""
RECIPES: Mapping[str, str] = {
    "spread": f"standard deviation of y_hat in windows of {WINDOW} pixels a side, borders repeated, "
    "mean over channels",
    "residual": "|x - y_hat|, x resized to y_hat, mean over channels",
    "gradient": "sum of |y_hat - neighbour| along all axes, mean over channels",
}
"""How each simple score is computed, as runs record it."""


@dataclass(frozen=True)
class Simple:
    """Head of a simple score, which is its own output; fitted for no loss, with nothing to train."""

    name: str
    family: ClassVar[str] = "water_filling"
    fitted_for: ClassVar[None] = None
    start: ClassVar[float] = 0.0

    def outputs(self, channels: int, per_channel: bool) -> int:
        """Return 1, whatever the channels of the score."""
        return 1

    def loss(self, output: Images, y: Images, y_hat: Images, noise: Images | None = None) -> PerImage:
        """Compute the squared difference from the mean error: the loss that training would minimise."""
        return image_means((output - (y - y_hat).abs().mean(dim=1, keepdim=True)).square())

    def score(self, output: Images) -> Images:
        """Return the output itself."""
        return output


class SimpleNetwork(nn.Module):
    """A module that computes a simple score from the input of a score network; see `network_input`.

    Args:
        name: of SIMPLE.
        channels: channels of y_hat, which are the last of the input.
    """

    def __init__(self, name: str, channels: int) -> None:
        super().__init__()
        self.name, self.channels = name, channels

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the score, (N, 1, *space)."""
        images = (inputs + 1) / 2
        return SIMPLE[self.name](images[:, : -self.channels], images[:, -self.channels :])
