"""Cells in phase contrast, enlarged four times by an own generative adversarial network."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conformask.scores.networks import PatchGAN, UNet
from maskbench.tasks import Made
from maskbench.tasks._images import cut, middle, read
from maskbench.tasks._networks import crops, on_planes, over_turns, stepped, trained
from maskbench.triplets import BYTE, Floats, as_bytes

TITLE, NETWORK = "cells in phase contrast, a quarter of the side", "U-Net with an adversary"
DEGRADATION, LICENCE, VERSION = "means of 4 x 4 pixels", "MIT (Usiigaci, Tsai et al. 2019)", 1
FACTOR, SIDE = 4, 512
WIDTH, LEVELS, STEPS, BATCH, CROP, RATE = 16, 4, 1000, 4, 128, 2e-4
NEAR = 100.0
"""Weight of the mean absolute error beside the adversary, as in pix2pix (Isola et al. 2017)."""


class Enlarger(nn.Module):
    """A U-Net that gives details to add to x enlarged by bicubic interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.network = UNet(1, 1, width=WIDTH, levels=LEVELS).start_at(0)

    def forward(self, x: Tensor) -> Tensor:
        """Compute y_hat, (N, 1, 4 h, 4 w)."""
        smooth = enlarged(x)
        return smooth + self.network(smooth)


def make(data: Path, work: Path) -> Made:
    """Yield tiles of the middles of half of the fields, with the spread over the flips and turns of x."""
    fields = [(path.stem, middle(read(path, "L"), SIDE)) for path in sorted((data / "cells").glob("*.png"))]
    torch.manual_seed(0)
    network = Enlarger()
    seen = [(y,) for _, y in fields[::2]]
    enlarge = on_planes(trained(network, work / "networks" / "cells_gan.pt", lambda: train(network, seen)))
    for name, y in fields[1::2]:
        means = y.reshape(SIDE // FACTOR, FACTOR, SIDE // FACTOR, FACTOR).mean(axis=(1, 3))
        x = as_bytes(means) / np.float32(BYTE)
        y_hat, spread = over_turns(x, enlarge)
        yield from cut(name, x, y_hat, y, spread)


def enlarged(x: Tensor) -> Tensor:
    """Return x at four times its side, by bicubic interpolation."""
    return F.interpolate(x, scale_factor=FACTOR, mode="bicubic")


def train(network: nn.Module, images: list[tuple[Floats]]) -> None:
    """Fit the network against an adversary, which sees x beside the image; four minutes of one core."""
    generator, adversary = np.random.default_rng(0), PatchGAN(2, width=2 * WIDTH)
    own, other = (
        torch.optim.Adam(each.parameters(), lr=RATE, betas=(0.5, 0.999)) for each in (network, adversary)
    )
    for _ in range(STEPS):
        (y,) = crops(images, BATCH, CROP, generator)
        x = F.avg_pool2d(y, FACTOR)
        y_hat, beside = network(x), enlarged(x)
        judged = [adversary(torch.cat([beside, each], dim=1)) for each in (y, y_hat.detach())]
        stepped(other, (F.softplus(-judged[0]).mean() + F.softplus(judged[1]).mean()) / 2)
        fooled = F.softplus(-adversary(torch.cat([beside, y_hat], dim=1))).mean()
        stepped(own, fooled + NEAR * F.l1_loss(y_hat, y))
