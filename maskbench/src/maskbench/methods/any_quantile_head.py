"""QUTCC: one network for all quantiles of y, which gets the level beside the images."""

from pathlib import Path

import torch
from torch import Tensor, nn

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._heads import HIGH, LOW, STEPS, fitted, outputs, pinball, residuals, unet, unit_of
from maskbench.splits import LEARN
from maskbench.triplets import Floats, Maps, Triplets

TITLE, PAPER, IMAGES = "any quantile", "Ye et al. 2025, arXiv 2507.14760", LEARN


def with_level(images: Tensor, level: Tensor) -> Tensor:
    """Return images with a further channel, the level of each (N, 1, 1, 1) in [-1, 1]."""
    return torch.cat([images, (2 * level - 1).expand(-1, 1, *images.shape[2:])], dim=1)


def loss(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return the pinball loss at a level that is drawn for each image."""
    level = torch.rand(len(images), 1, 1, 1)
    return pinball(network(with_level(images, level)), targets, level)


def fit(learn: Triplets, aim: Aim, work: Path, steps: int = STEPS) -> Score:
    """Learn all quantiles around y_hat; the score is the distance of those at 0.95 and 0.05."""
    channels, unit = learn.y.shape[3], unit_of(learn)
    network = fitted(lambda: unet(learn, channels, extra=1), loss, learn, residuals(learn), work, steps)

    def widths(images: Tensor) -> Tensor:
        levels = (torch.full((len(images), 1, 1, 1), level) for level in (LOW, HIGH))
        lower, upper = (network(with_level(images, level)) for level in levels)
        return (upper - lower).clamp(min=0)

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        return unit * outputs(widths, x, y_hat).mean(dim=1).numpy()

    return score
