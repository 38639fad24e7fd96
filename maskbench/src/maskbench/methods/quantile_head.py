"""Quantile regression of y around y_hat by the pinball loss, the head that im2im-uq recommends."""

from pathlib import Path

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

TITLE, PAPER, IMAGES = "quantile regression", "Angelopoulos et al. 2022, arXiv 2202.05265", LEARN


def loss(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return the pinball losses of both quantiles; y_hat stands for the prediction."""
    lower, upper = network(images).chunk(2, dim=1)
    return pinball(lower, targets, LOW) + pinball(upper, targets, HIGH)


def fit(learn: Triplets, aim: Aim, work: Path, steps: int = STEPS) -> Score:
    """Learn the 0.05 and 0.95 quantiles; the score is the width of the interval of both and y_hat."""
    channels, unit = learn.y.shape[3], unit_of(learn)
    network = fitted(lambda: unet(learn, 2 * channels), loss, learn, residuals(learn), work, steps)

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        lower, upper = outputs(network, x, y_hat).chunk(2, dim=1)
        return unit * width_around(lower, upper).mean(dim=1).numpy()

    return score
