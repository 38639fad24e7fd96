"""Regression of the error of each channel by least squares, the residual magnitude of im2im-uq."""

from pathlib import Path

from torch import Tensor, nn
from torch.nn.functional import mse_loss

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._heads import STEPS, fitted, outputs, residuals, unet, unit_of
from maskbench.splits import LEARN
from maskbench.triplets import Floats, Maps, Triplets

TITLE, PAPER, IMAGES = "residual magnitude", "Angelopoulos et al. 2022, arXiv 2202.05265", LEARN


def loss(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of |output|; y_hat stands for the prediction."""
    return mse_loss(network(images).abs(), targets.abs())


def fit(learn: Triplets, aim: Aim, work: Path, steps: int = STEPS) -> Score:
    """Learn |y - y_hat|, which is the score."""
    channels, unit = learn.y.shape[3], unit_of(learn)
    network = fitted(lambda: unet(learn, channels).start_at(1), loss, learn, residuals(learn), work, steps)

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        return unit * outputs(network, x, y_hat).abs().mean(dim=1).numpy()

    return score
