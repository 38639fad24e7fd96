"""DISTS (Ding et al. 2020): structure and texture of deep features, tolerant of resampled texture."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from conformask.arithmetic import full_precision
from conformask.distances.backbones import VGG16, Taps, features, frozen, packaged, weights_file
from conformask.distances.inputs import check_size, means_over_slices, slices_of, three_channels
from conformask.names import DISTANCES
from conformask.types import Images, PerImage

STABILITY = 1e-6
"""Constant added to denominators, as published."""


@dataclass(frozen=True)
class Dists:
    """DISTS as published, on VGG16, with the feature weights that torchmetrics ships.

    Images in [0, 1], grey repeated to three channels, at least 16 pixels a side, not resized. Not monotone
    under nested masks. The network is read at the first call, once for a process, file and device;
    constructing touches no file. VGG16's weights are torchvision's file in `weights_path` (the file, or its
    folder), by default in torch hub's `checkpoints` folder; they are never downloaded.

    Attributes:
        weights_path: the file of VGG16's weights, or its folder.
    """

    weights_path: str | Path | None = None
    name = "dists"
    monotone = False
    exponent = None
    upper_bound = DISTANCES["dists"].upper_bound

    def __call__(self, a: Images, b: Images) -> PerImage:
        """Compute DISTS(a, b) of each image, float32, shape (N,), >= 0; of a volume the mean over its slices.

        Raises:
            InvalidArgumentError: images below 16 pixels a side or of other than 1 or 3 channels, or
                torchvision is missing.
            MissingFileError: VGG16's weights, or those that torchmetrics ships from 1.7 on, are not there.
            MismatchError: the file holds other weights.
        """
        n, a, b = len(a), slices_of(a), slices_of(b)
        check_size(self.name, a, VGG16.smallest_side)
        a, b = three_channels(self.name, a), three_channels(self.name, b)
        network = _network(weights_file(self.name, VGG16, self.weights_path), a.device)
        with full_precision(a):
            value: Tensor = network(a, b)
        return means_over_slices(value, n)


class DistsNetwork(nn.Module):
    """VGG16 with blurred pooling, and the published weights of its features' texture and structure."""

    mean: Tensor
    deviation: Tensor
    texture: Tensor
    structure: Tensor

    def __init__(self, taps: Taps, texture: Tensor, structure: Tensor) -> None:
        super().__init__()
        self.taps = taps
        total = texture.sum() + structure.sum()
        self.register_buffer("texture", texture.flatten() / total)
        self.register_buffer("structure", structure.flatten() / total)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, a: Images, b: Images) -> PerImage:
        """Compute the weighted sum of the dissimilarities of all features, the image itself included."""
        pairs = zip(self._features(a), self._features(b), strict=True)
        unlike = [torch.stack(_unlike(left, right)) for left, right in pairs]
        texture, structure = torch.cat(unlike, dim=2)
        weighted: Tensor = texture * self.texture + structure * self.structure
        return weighted.sum(dim=1)

    def _features(self, images: Images) -> list[Tensor]:
        return [images, *self.taps((images - self.mean) / self.deviation)]


class BlurredPool(nn.Module):
    """Pooling that halves (N, C, H, W) by the root of the blurred squares, instead of VGG's maximum."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        hann = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("kernel", torch.outer(hann, hann).view(1, 1, 3, 3))

    def forward(self, feature: Tensor) -> Tensor:
        """Pool each channel on its own; the epsilon below the root keeps the gradient finite at 0."""
        channels = feature.shape[1]
        kernel = self.kernel.expand(channels, -1, -1, -1)
        return (conv2d(feature.square(), kernel, stride=2, padding=1, groups=channels) + 1e-12).sqrt()


def _unlike(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the dissimilarities of means (texture) and of deviations from them (structure), each (N, C).

    The published 1 - (2uv + c)/(u^2 + v^2 + c) is written as (u - v)^2/(u^2 + v^2 + c), and the same for
    variances and covariance: exactly 0 for equal features, never below.
    """
    mean_a, mean_b = a.mean(dim=(2, 3), keepdim=True), b.mean(dim=(2, 3), keepdim=True)
    a, b = a - mean_a, b - mean_b
    mean_a, mean_b = mean_a.flatten(1), mean_b.flatten(1)
    texture = (mean_a - mean_b).square() / (mean_a.square() + mean_b.square() + STABILITY)
    variances = a.square().mean(dim=(2, 3)) + b.square().mean(dim=(2, 3))
    return texture, (a - b).square().mean(dim=(2, 3)) / (variances + STABILITY)


@cache
def _network(path: Path, device: torch.device) -> nn.Module:
    """Load the network once, outside inference mode, whose tensors could not be used in later training."""
    with torch.inference_mode(False):
        layers = [
            BlurredPool() if isinstance(layer, nn.MaxPool2d) else layer
            for layer in features(Dists.name, VGG16, path)
        ]
        own = packaged(Dists.name, "dists_models/weights.pt")
        return frozen(DistsNetwork(Taps(layers, VGG16.taps), own["alpha"], own["beta"]), device)
