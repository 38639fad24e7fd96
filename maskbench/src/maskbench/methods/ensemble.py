"""A deep ensemble: three networks of mean and variance with different seeds, and their mixture.

The benchmark has outputs of a network that it cannot train again. The three stand beside it: each learns a
correction of y_hat and its variance by the likelihood of a normal distribution, as in the paper, without its
adversarial examples. The score is the spread of their mixture around y_hat: what such corrections leave open
or would change, and not how sure the network itself is.
"""

from pathlib import Path

import torch
from torch import Tensor

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._heads import STEPS, outputs, unit_of
from maskbench.methods.gaussian_head import mean_and_variance, spread_around_y_hat, trained
from maskbench.splits import LEARN
from maskbench.triplets import Floats, Maps, Triplets

TITLE, IMAGES = "deep ensemble, beside the network", LEARN
PAPER = "Lakshminarayanan, Pritzel, Blundell 2017, arXiv 1612.01474"
MEMBERS = 3


def mixture(means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of mixtures in equal parts, along the first axis."""
    mean = means.mean(dim=0)
    return mean, ((variances + means**2).mean(dim=0) - mean**2).clamp(min=0)


def fit(learn: Triplets, aim: Aim, work: Path, steps: int = STEPS) -> Score:
    """Train the three; the score is the spread of their mixture around y_hat."""
    networks, unit = [trained(learn, work, steps, seed) for seed in range(MEMBERS)], unit_of(learn)

    def spread(images: Tensor) -> Tensor:
        parts = zip(*(mean_and_variance(network(images)) for network in networks), strict=True)
        return spread_around_y_hat(*mixture(*map(torch.stack, parts)))

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        return unit * outputs(spread, x, y_hat).mean(dim=1).numpy()

    return score
