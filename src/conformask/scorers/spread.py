"""The score that learns nothing: how much y_hat varies around each pixel."""

import torch.nn.functional as F

from conformask.types import Images

WINDOW = 7
"""Pixels along a side."""


def local_spread(x: Images, y_hat: Images) -> Images:
    """The standard deviation of y_hat in a window around each pixel, (N, 1, H, W): the mean over channels.

    Takes any (x, y_hat), for Heuristic(local_spread, channels). Networks err most at edges and in textures,
    so a trained score should give smaller masks than this one.
    """
    half = WINDOW // 2
    padded = F.pad(y_hat, (half, half, half, half), mode="replicate")
    mean, square = F.avg_pool2d(padded, WINDOW, 1), F.avg_pool2d(padded**2, WINDOW, 1)
    return (square - mean**2).clamp(min=0).sqrt().mean(dim=1, keepdim=True)
