"""The error network of conformal failure masks: two convolutions that estimate the squared error.

In the paper it stands on features from inside the network. A black box does not give them: here x, y_hat and
simple differences of both take their place.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, mse_loss, pad, softplus

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._heads import STEPS, fitted, outputs, residuals, unit_of
from maskbench.splits import LEARN
from maskbench.triplets import Floats, Maps, Triplets

TITLE, PAPER, IMAGES = "failure network", "conformal failure masks 2026, arXiv 2604.18001", LEARN
WIDTH, DROPPED = 64, 0.25
SHORTER = STEPS // 2
"""A step takes twice as long as one of the U-Net."""
DIFFERENCES = 3


class ErrorNet(nn.Module):
    """Maps x and y_hat (N, in_channels, H, W), the last `channels` of them y_hat, to (N, 1, H, W)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        width = in_channels + DIFFERENCES
        self.layers = nn.Sequential(
            nn.BatchNorm2d(width), *_block(width), *_block(WIDTH), nn.Conv2d(WIDTH, 1, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Estimate the squared error, in squared units."""
        estimate: Tensor = self.layers(torch.cat([images, differences(images, self.channels)], dim=1))
        return estimate


def _block(channels: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels, WIDTH, 3, padding="same")
    return convolution, nn.ReLU(), nn.BatchNorm2d(WIDTH), nn.Dropout(DROPPED)


def differences(images: Tensor, channels: int) -> Tensor:
    """Return |x - y_hat|, the steps of y_hat to its neighbours, and its distance from its mean in 3 x 3."""
    x, y_hat = images[:, :-channels], images[:, -channels:]
    x = x if x.shape[1] == channels else x.mean(dim=1, keepdim=True)
    around = pad(y_hat, (1, 1, 1, 1), mode="replicate")
    down, right = around.diff(dim=2)[..., 1:-1].abs(), around.diff(dim=3)[..., 1:-1, :].abs()
    steps = down[..., 1:, :] + down[..., :-1, :] + right[..., 1:] + right[..., :-1]
    features = ((x - y_hat).abs(), steps, (y_hat - avg_pool2d(around, 3, stride=1)).abs())
    return torch.cat([each.mean(dim=1, keepdim=True) for each in features], dim=1)


def loss(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of the estimate of the squared error, its mean over channels."""
    return mse_loss(network(images), (targets**2).mean(dim=1, keepdim=True))


def fit(learn: Triplets, aim: Aim, work: Path, steps: int = SHORTER) -> Score:
    """Learn the squared error; the score is its estimate, by softplus above 0 and in the same order."""
    in_channels, channels = learn.x.shape[3] + learn.y.shape[3], learn.y.shape[3]
    unit = unit_of(learn)
    network = fitted(lambda: ErrorNet(in_channels, channels), loss, learn, residuals(learn), work, steps)

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        return unit**2 * softplus(outputs(network, x, y_hat)[:, 0]).numpy()

    return score
