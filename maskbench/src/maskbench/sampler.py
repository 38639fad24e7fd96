"""A network that draws: four-fold enlargement, to be trained by the energy score.

It takes noise beside x and learns to draw as the truth is distributed (engression, Shen and Meinshausen
2023): for two draws s and t, (|y - s| + |y - t| - |s - t|) / 2, where |.| is the norm over a patch, is least
on average for the right distribution.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FACTOR, NOISE, PATCHES = 4, 8, (1, 4, 16)
"""Of the enlargement; channels of noise at each level; sides of the patches."""


class Sampler(nn.Module):
    """x (N, 1, h, w) -> a draw of y, (N, 1, 4 h, 4 w): a U-Net with noise at each of its levels."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.down = nn.ModuleList(map(_block, (1, *widths[:-1]), widths))
        self.up = nn.ModuleList(_block(fine + wide, fine) for fine, wide in pairwise(widths))
        self.last = nn.Conv2d(widths[0] + NOISE, FACTOR**2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute one draw for each image."""
        features, skips = x - 0.5, []
        for level, block in enumerate(self.down):
            features = block(_noisy(F.avg_pool2d(features, 2) if level else features))
            skips.append(features)
        for block, fine in zip(reversed(self.up), reversed(skips[:-1]), strict=True):
            wide = F.interpolate(features, size=fine.shape[2:], mode="nearest")
            features = block(_noisy(torch.cat([fine, wide], dim=1)))
        details = F.pixel_shuffle(self.last(_noisy(features)), FACTOR)
        return F.interpolate(x, scale_factor=FACTOR, mode="bicubic") + details


def energy_score(y: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Return the energy score of two draws, averaged over patches of several sides."""

    def norm(difference: Tensor, side: int) -> Tensor:
        return (F.avg_pool2d(difference**2, side) + 1e-8).sqrt().mean()

    of_sides = [(norm(y - one, k) + norm(y - other, k) - norm(one - other, k)) / 2 for k in PATCHES]
    return torch.stack(of_sides).mean()


def _block(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels + NOISE, width, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.SiLU(),
    )


def _noisy(features: Tensor) -> Tensor:
    return torch.cat([features, torch.randn(len(features), NOISE, *features.shape[2:])], dim=1)
