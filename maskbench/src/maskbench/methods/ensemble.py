"""A deep ensemble: three networks of mean and variance with different seeds, and the spread of their mixture.

The benchmark has outputs of a network that it cannot train again. The three stand beside it: each learns a
correction of y_hat and its variance by the likelihood of a normal distribution, as in the paper, without its
adversarial examples. They thus say how sure such corrections are, and not how sure the network is.
"""

from pathlib import Path

import torch
from torch import Tensor

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._heads import STEPS, outputs, unit_of
from maskbench.methods.gaussian_head import mean_and_variance, trained
from maskbench.splits import LEARN
from maskbench.triplets import Floats, Maps, Triplets

TITLE, IMAGES = "deep ensemble, beside the network", LEARN
PAPER = "Lakshminarayanan, Pritzel, Blundell 2017, arXiv 1612.01474"
MEMBERS = 3


def variance_of_mixture(means: Tensor, variances: Tensor) -> Tensor:
    """Return the variance of mixtures in equal parts, along the first axis."""
    return (variances + means**2).mean(dim=0) - means.mean(dim=0) ** 2


def fit(learn: Triplets, aim: Aim, work: Path, steps: int = STEPS) -> Score:
    """Train the three; the score is the standard deviation of their mixture."""
    networks, unit = [trained(learn, work, steps, seed) for seed in range(MEMBERS)], unit_of(learn)

    def spread(images: Tensor) -> Tensor:
        parts = zip(*(mean_and_variance(network(images)) for network in networks), strict=True)
        return variance_of_mixture(*map(torch.stack, parts)).clamp(min=0).sqrt()

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        return unit * outputs(spread, x, y_hat).mean(dim=1).numpy()

    return score
