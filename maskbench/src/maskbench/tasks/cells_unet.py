"""Fluorescence with the noise of two microscopes, and an own U-Net trained on other fields."""

from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from conformask.scores.networks import UNet
from maskbench.tasks import Made
from maskbench.tasks._images import cut, read
from maskbench.tasks._networks import crops, on_planes, over_turns, stepped, trained
from maskbench.triplets import Floats

TITLE, NETWORK = "cells in fluorescence, noise of microscopes", "U-Net"
DEGRADATION, LICENCE, VERSION = "real", "MIT (FMD, Zhang et al. 2019)", 1
TRAINED_ON = ("confocal_mice", "twophoton_mice", "widefield_bpae")
WIDTH, LEVELS, STEPS, BATCH, CROP, RATE = 16, 4, 1500, 8, 64, 1e-3


class Denoiser(nn.Module):
    """A U-Net that gives what it adds to x."""

    def __init__(self) -> None:
        super().__init__()
        self.network = UNet(1, 1, width=WIDTH, levels=LEVELS).start_at(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute y_hat, (N, 1, H, W)."""
        return x + self.network(x)


def make(data: Path, work: Path) -> Made:
    """Yield tiles of the fields that the network has not seen, each place from one of the noisy images."""
    fields: dict[bool, list[tuple[str, Floats, list[Floats]]]] = {True: [], False: []}
    for path in sorted((data / "fmd").glob("*_clean.png")):
        stem = path.stem.removesuffix("_clean")
        field = "_".join(stem.split("_")[:2])
        noisy = [read(each, "L") for each in sorted(path.parent.glob(f"{stem}_noisy*.png"))]
        fields[field in TRAINED_ON].append((field, read(path, "L"), noisy))
    torch.manual_seed(0)
    network = Denoiser()
    pairs = [(x, y) for _, y, noisy in fields[True] for x in noisy]
    denoise = on_planes(trained(network, work / "networks" / "cells_unet.pt", lambda: train(network, pairs)))
    for field, y, noisy in fields[False]:
        for place, x in enumerate(noisy):
            y_hat, spread = over_turns(x, denoise)
            yield from islice(cut(field, x, y_hat, y, spread), place, None, len(noisy))


def train(network: nn.Module, pairs: list[tuple[Floats, Floats]]) -> None:
    """Fit the network by the squared error; two minutes of one core."""
    generator = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        x, y = crops(pairs, BATCH, CROP, generator)
        stepped(optimizer, F.mse_loss(network(x), y))
        schedule.step()
