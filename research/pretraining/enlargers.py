"""Networks that enlarge small images, most of them trained for looks: y_hat from a smaller x.

    python research/pretraining/enlargers.py WORK DATA [NAME ...]

Trains them, a minute or two each, into WORK/enlargers; those that are there stay. The networks of
predictors.py see an x that was enlarged before; these see it small, as those do that people use: residual
blocks at its size, then a pixel shuffle. Some learn sharpened truths, some against
a discriminator, and some from images with noise and JPEG blocks, so that they smooth over what is fine in
clean ones.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from degradations import Generator, blurred, compressed, normal, sharp
from torch import nn
from trained import looks_loss, train_all
from truths import Truths

from conformask.scores.network_scorer import save_weights
from conformask.scores.networks import PatchGAN

BATCH, STEPS, EARLY, LEARNING_RATE = 8, 1000, 200, 1e-3
SHARPENED_BY, SHARPENED_AT = 0.8, 1.0
"""How much of what a blur of this sigma takes away is added to a truth to look sharp."""
JUDGED_FROM = 600
"""The step from which a discriminator has a say."""
WORN = 0.25
"""The share of batches in which what is enlarged is worn."""


class Enlarger(nn.Module):
    """Small images (N, 3, h, w) to (N, 3, factor h, factor w): what is added to a bilinear enlargement."""

    def __init__(self, factor: int, width: int, blocks: int) -> None:
        super().__init__()
        self.factor = factor
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
            )
            for _ in range(blocks)
        )
        self.out = nn.Conv2d(width, 3 * factor**2, 3, padding=1)

    def forward(self, small: torch.Tensor) -> torch.Tensor:
        features = first = self.first(small)
        for block in self.blocks:
            features = features + 0.5 * block(features)
        return F.pixel_shuffle(self.out(features + first), self.factor)


def _jobs() -> dict[str, tuple[int, int, str]]:
    jobs = {
        f"{factor}-{how}": (factor, width, how)
        for factor, width in ((2, 24), (4, 40))
        for how in ("plain", "crisp", "judged", "worn", "worn crisp")
    }
    return jobs | {
        "2-narrow": (2, 8, "plain"),
        "4-narrow": (4, 12, "plain"),
        "4-worn judged": (4, 40, "worn judged"),
    }


JOBS = _jobs()
"""By how much, width and how a network is trained, by its name."""


def network_of(name: str) -> Enlarger:
    factor, width, _ = JOBS[name]
    return Enlarger(factor, width, blocks=6)


def made_small(y: torch.Tensor, factor: int, generator: Generator) -> torch.Tensor:
    """By one of three kernels."""
    kind = generator.integers(3)
    if kind == 0:
        return F.avg_pool2d(y, factor)
    if kind == 1:
        return F.interpolate(y, scale_factor=1 / factor, mode="bicubic", antialias=True).clamp(0, 1)
    return blurred(y, factor * generator.uniform(0.25, 0.5))[
        ..., factor // 2 :: factor, factor // 2 :: factor
    ]


def worn(small: torch.Tensor, generator: Generator) -> torch.Tensor:
    """With a blur, noise and JPEG blocks, each of any strength."""
    small = blurred(small, generator.uniform(0.3, 1.2))
    small = (small + generator.uniform(0, 0.1) * normal(small, generator)).clamp(0, 1)
    return compressed(small, generator)


def batches(truths: Truths, factor: int, how: str, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(small x, what the network is to make of it) without end."""
    generator = np.random.default_rng(seed)
    for kind in truths.kinds(generator):
        y = truths.crops(kind, BATCH, generator).expand(-1, 3, -1, -1)
        small = made_small(y, factor, generator)
        if "worn" in how:
            small = worn(small, generator)
        if "crisp" in how:
            y = sharp(y, SHARPENED_BY, SHARPENED_AT)
        yield small, y


def train(name: str, folder: Path, truths: Truths) -> None:
    factor, _, how = JOBS[name]
    torch.manual_seed(0)
    network, discriminator = network_of(name).train(), PatchGAN(6, width=24)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    judging = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    for step, (small, y) in enumerate(batches(truths, factor, how, seed=len(name)), 1):
        optimizer.param_groups[0]["lr"] *= 1 if step < 0.7 * STEPS else 0.99
        x = enlarged(small, factor)
        y_hat = x + network(2 * small - 1)
        loss = (y - y_hat).abs().mean()
        if "judged" in how and step > JUDGED_FROM:
            loss = 3 * loss + looks_loss(discriminator, judging, x, y_hat, y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step in (EARLY, STEPS):
            print(f"{name} {step}: {loss.item():.4f}", flush=True)
            save_weights(network.state_dict(), folder / f"{name}-{step}.safetensors")
        if step == STEPS:
            return


def enlarged(small: torch.Tensor, factor: int) -> torch.Tensor:
    return F.interpolate(small, scale_factor=factor, mode="bilinear")


def enlarged_by(
    network: Enlarger, y: torch.Tensor, generator: Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x, y_hat), both of the size of y and with its channels."""
    small = made_small(y, network.factor, generator)
    if generator.random() < WORN:
        small = worn(small, generator)
    x = enlarged(small, network.factor)
    added = network(2 * small.expand(-1, 3, -1, -1) - 1)
    y_hat = x + (added if y.shape[1] == 3 else added.mean(dim=1, keepdim=True))
    return x, y_hat.clamp(0, 1)


if __name__ == "__main__":
    train_all(__doc__, "enlargers", JOBS, lambda name: STEPS, train)
