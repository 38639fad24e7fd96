"""QUTCC: one network for all quantiles of y, with an embedding of the level."""

from pathlib import Path

import torch
from torch import Tensor, nn

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._heads import (
    HIGH,
    LOW,
    STEPS,
    fitted,
    outputs,
    pinball,
    residuals,
    unet,
    unit_of,
    width_around,
)
from maskbench.splits import LEARN
from maskbench.triplets import Floats, Maps, Triplets

TITLE, PAPER, IMAGES = "any quantile", "Ye et al. 2025, arXiv 2507.14760", LEARN
FEATURES, EMBEDDED = 24, 32


class AnyQuantile(nn.Module):
    """A U-Net whose last features are scaled and shifted by an embedding of the level."""

    def __init__(self, learn: Triplets) -> None:
        super().__init__()
        self.features = unet(learn, FEATURES)
        self.features.out.reset_parameters()
        self.embedding = nn.Sequential(nn.Linear(1, EMBEDDED), nn.SiLU(), nn.Linear(EMBEDDED, 2 * FEATURES))
        self.last = nn.Conv2d(FEATURES, learn.y.shape[3], 1)

    def forward(self, images: Tensor, *levels: Tensor) -> list[Tensor]:
        """Return the quantile of each image at each of the levels (N, 1)."""
        features, quantiles = self.features(images), []
        for level in levels:
            scale, shift = self.embedding(2 * level - 1)[..., None, None].chunk(2, dim=1)
            quantiles.append(self.last(nn.functional.leaky_relu(features * (1 + scale) + shift, 0.2)))
        return quantiles


def loss(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return the pinball loss at a level that is drawn for each image."""
    level = torch.rand(len(images), 1)
    (quantile,) = network(images, level)
    return pinball(quantile, targets, level[..., None, None])


def fit(learn: Triplets, aim: Aim, work: Path, steps: int = STEPS) -> Score:
    """Learn all quantiles; the score is the width of the interval of those at 0.05, at 0.95 and y_hat."""
    unit = unit_of(learn)
    network = fitted(lambda: AnyQuantile(learn), loss, learn, residuals(learn), work, steps)

    def widths(images: Tensor) -> Tensor:
        return width_around(*network(images, *(torch.full((len(images), 1), level) for level in (LOW, HIGH))))

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        return unit * outputs(widths, x, y_hat).mean(dim=1).numpy()

    return score
