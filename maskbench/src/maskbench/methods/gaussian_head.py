"""Mean and variance of y by the likelihood of a normal distribution: heteroscedastic regression.

In the papers the mean is the output of the network itself. Here the output is y_hat, and the mean that is
learned may lie elsewhere: the score is the spread around y_hat.
"""

from pathlib import Path

from torch import Tensor, nn

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._heads import STEPS, fitted, outputs, residuals, unet, unit_of
from maskbench.splits import LEARN
from maskbench.triplets import Floats, Maps, Triplets

TITLE, IMAGES = "Gaussian likelihood", LEARN
PAPER = "Kendall and Gal 2017, arXiv 1703.04977; Angelopoulos et al. 2022, arXiv 2202.05265"
LIMIT = 12.0
"""Limit of the logarithms of variances, in squared units."""


def mean_and_variance(output: Tensor) -> tuple[Tensor, Tensor]:
    """Return both parts of the network's output; it gives the logarithm of the variance."""
    mean, logarithm = output.chunk(2, dim=1)
    return mean, logarithm.clamp(-LIMIT, LIMIT).exp()


def spread_around_y_hat(mean: Tensor, variance: Tensor) -> Tensor:
    """Return the root of the expected square of y - y_hat, by the mean and variance of y - y_hat."""
    return (variance + mean**2).sqrt()


def loss(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of ((y - mean)^2 / variance + log variance) / 2."""
    mean, variance = mean_and_variance(network(images))
    return ((targets - mean) ** 2 / variance + variance.log()).mean() / 2


def trained(learn: Triplets, work: Path, steps: int, seed: int = 0) -> nn.Module:
    """Return a network that gives mean and log variance of each channel of (y - y_hat) / unit."""
    size = 2 * learn.y.shape[3]
    return fitted(lambda: unet(learn, size), loss, learn, residuals(learn), work, steps, seed)


def fit(learn: Triplets, aim: Aim, work: Path, steps: int = STEPS) -> Score:
    """Learn mean and variance; the score is the spread around y_hat."""
    network, unit = trained(learn, work, steps), unit_of(learn)

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        spread = spread_around_y_hat(*mean_and_variance(outputs(network, x, y_hat)))
        return unit * spread.mean(dim=1).numpy()

    return score
