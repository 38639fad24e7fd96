"""Monte Carlo dropout: the spread of a network that corrects y_hat, with dropout left on.

The benchmark has outputs of the network and not the network itself, so that the passes are those of a second
network beside it.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._heads import STEPS, fitted, outputs, residuals, unet, unit_of
from maskbench.splits import LEARN
from maskbench.triplets import Floats, Maps, Triplets

TITLE, PAPER, IMAGES = (
    "Monte Carlo dropout, beside the network",
    "Gal and Ghahramani 2016, arXiv 1506.02142",
    LEARN,
)
DROPPED, PASSES = 0.2, 10


def dropping(learn: Triplets) -> nn.Module:
    """Return a U-Net with dropout after each level."""
    network = unet(learn, learn.y.shape[3])
    for levels in (network.down, network.up):
        for at, level in enumerate(levels):
            levels[at] = nn.Sequential(level, nn.Dropout(DROPPED))
    return network


def loss(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of the correction."""
    return mse_loss(network(images), targets)


def fit(learn: Triplets, aim: Aim, work: Path, steps: int = STEPS) -> Score:
    """Learn y - y_hat; the score is the standard deviation of ten passes with dropout."""
    network, unit = (
        fitted(lambda: dropping(learn), loss, learn, residuals(learn), work, steps),
        unit_of(learn),
    )
    for module in network.modules():
        module.train(isinstance(module, nn.Dropout))

    def spread(images: Tensor) -> Tensor:
        return torch.stack([network(images) for _ in range(PASSES)]).std(dim=0)

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return unit * outputs(spread, x, y_hat).mean(dim=1).numpy()

    return score
