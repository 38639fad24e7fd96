"""Photographs in grey, enlarged four times by a network that draws samples (see `maskbench.sampler`)."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from maskbench.sampler import FACTOR, Sampler, energy_score
from maskbench.tasks import Made
from maskbench.tasks._images import photographs
from maskbench.tasks._networks import crops, stepped, trained
from maskbench.triplets import BYTE, as_bytes

TITLE, NETWORK = "photographs in grey, a quarter of the side", "engression, one draw"
DEGRADATION, LICENCE, VERSION = "means of 4 x 4 pixels", "research use", 1
DRAWS, SIDE, WIDTHS = 8, 64, (32, 64, 96)
STEPS, BATCH, RATE, SEEN_SIDE = 2000, 16, 5e-4, 128


def make(data: Path, work: Path) -> Made:
    """Yield the middles of a third of the photographs, with what the draws say.

    The low and high quantiles, 5 and 95 % at the ranks of K-RCPS (Teneggi et al. 2023), are the least and the
    largest of eight draws.
    """
    torch.manual_seed(0)
    network = Sampler(WIDTHS)
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
