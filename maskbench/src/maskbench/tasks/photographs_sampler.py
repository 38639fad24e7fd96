"""Photographs in grey, enlarged four times by a network that draws samples.

It takes noise beside x and learns to draw as the truth is distributed (engression, Shen and Meinshausen
2023): for two draws s and t, (|y - s| + |y - t| - |s - t|) / 2, where |.| is the norm over a patch, is least
on average for the right distribution.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskbench.tasks import Made
from maskbench.tasks._images import photographs
from maskbench.tasks._networks import crops, stepped, trained
from maskbench.triplets import BYTE, as_bytes

TITLE, NETWORK = "photographs in grey, a quarter of the side", "engression, one draw"
DEGRADATION, LICENCE, VERSION = "means of 4 x 4 pixels", "research use", 1
FACTOR, DRAWS, SIDE = 4, 8, 64
WIDTHS, NOISE, PATCHES = (32, 64, 96), 8, (1, 4, 16)
STEPS, BATCH, RATE, SEEN_SIDE = 2000, 16, 5e-4, 128


class Sampler(nn.Module):
    """x (N, 1, h, w) -> a draw of y, (N, 1, 4 h, 4 w): a U-Net with noise at each of its levels."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(map(_block, (1, *WIDTHS[:-1]), WIDTHS))
        self.up = nn.ModuleList(_block(fine + wide, fine) for fine, wide in pairwise(WIDTHS))
        self.last = nn.Conv2d(WIDTHS[0] + NOISE, FACTOR**2, 3, padding=1)

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


def make(data: Path, work: Path) -> Made:
    """Yield the middles of a third of the photographs, with what the draws say.

    The low and high quantiles, 5 and 95 % at the ranks of K-RCPS (Teneggi et al. 2023), are the least and the
    largest of eight draws.
    """
    torch.manual_seed(0)
    network = Sampler()
    trained(network, work / "networks" / "photographs_sampler.pt", lambda: train(network, data))
    for name, y in photographs(data, 0, 3):
        grey = y.mean(axis=2)
        means = grey.reshape(SIDE // FACTOR, FACTOR, SIDE // FACTOR, FACTOR).mean(axis=(1, 3))
        x = as_bytes(means) / np.float32(BYTE)
        with torch.inference_mode():
            draws = network(torch.from_numpy(x).repeat(DRAWS, 1, 1, 1))[:, 0].clamp(0, 1).numpy()
        maps = {"network": draws.std(axis=0), "low": draws.min(axis=0), "high": draws.max(axis=0)}
        yield name, x, draws[0], grey, maps


def train(network: nn.Module, data: Path) -> None:
    """Fit the network to the other photographs by the energy score; four minutes of one core."""
    images = [(y.mean(axis=2),) for part in (1, 2) for _, y in photographs(data, part, 3, SEEN_SIDE)]
    generator, optimizer = np.random.default_rng(0), torch.optim.Adam(network.parameters(), lr=RATE)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * max(0.02, min(1, 3 * (1 - step / STEPS)))
        (y,) = crops(images, BATCH, SIDE, generator)
        one, other = network(F.avg_pool2d(y, FACTOR).repeat(2, 1, 1, 1)).chunk(2)
        stepped(optimizer, energy_score(y, one, other))


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
