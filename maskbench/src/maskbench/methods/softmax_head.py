"""The distribution of y over 50 bins by cross entropy, a head of im2im-uq."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from maskbench.aim import Aim
from maskbench.methods import Score
from maskbench.methods._heads import HIGH, LOW, STEPS, fitted, outputs, unet, width_around
from maskbench.methods._images import planes
from maskbench.splits import LEARN
from maskbench.triplets import Floats, Maps, Triplets

TITLE, PAPER, IMAGES = "softmax over 50 bins", "Angelopoulos et al. 2022, arXiv 2202.05265", LEARN
BINS, FEATURES = 50, 24


def binned(y: Tensor) -> Tensor:
    """Return the bin of each value of [0, 1], 0 to 49."""
    return (y * BINS).long().clamp(0, BINS - 1)


def logits(network: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of each bin, (N, 50, C, H, W)."""
    return network(images).unflatten(1, (BINS, -1))


def loss(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return the cross entropy of the bins of y."""
    return cross_entropy(logits(network, images), targets)


def quantile(shares: Tensor, level: float) -> Tensor:
    """Return the quantile of distributions over bins, (N, 50, ...) to (N, ...); linear within a bin.

    im2im-uq gives the edge of the bin; linear interpolation avoids that most pixels have the same score.
    """
    upto = shares.cumsum(dim=1)
    at = (upto < level).sum(dim=1, keepdim=True).clamp(max=BINS - 1)
    inside, end = shares.gather(1, at), upto.gather(1, at)
    within = 1 - (end - level) / inside.clamp(min=torch.finfo(inside.dtype).tiny)
    return ((at + within.clamp(0, 1)) / BINS)[:, 0]


def fit(learn: Triplets, aim: Aim, work: Path, steps: int = STEPS) -> Score:
    """Learn the distribution of y; the score is the width of the interval of both quantiles and y_hat."""

    def make() -> nn.Module:
        last = nn.Conv2d(FEATURES, BINS * learn.y.shape[3], 1)
        features = unet(learn, FEATURES)
        features.out.reset_parameters()
        return nn.Sequential(features, nn.LeakyReLU(0.2), last)

    network = fitted(make, loss, learn, binned(planes(learn.y)), work, steps)

    def widths(images: Tensor) -> Tensor:
        shares = logits(network, images).softmax(dim=1)
        y_hat = (images[:, -shares.shape[2] :] + 1) / 2
        return width_around(quantile(shares, LOW), quantile(shares, HIGH), y_hat)

    def score(x: Floats, y_hat: Floats, cues: Maps) -> Floats:
        return outputs(widths, x, y_hat).mean(dim=1).numpy()

    return score
