"""LPIPS (Zhang et al. 2018): the distance between deep features, weighted to match human judgements."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

from conformask.arithmetic import full_precision, image_means
from conformask.distances.backbones import (
    ALEXNET,
    SQUEEZENET,
    VGG16,
    Backbone,
    Taps,
    features,
    frozen,
    packaged,
    weights_file,
)
from conformask.distances.inputs import check_size, means_over_slices, slices_of, three_channels, volumes_of
from conformask.errors import chosen
from conformask.names import DISTANCES
from conformask.types import Images, PerImage

NETS: Mapping[str, Backbone] = {"squeeze": SQUEEZENET, "alex": ALEXNET, "vgg": VGG16}
NAMES: Mapping[str, str] = {"squeeze": "lpips", "alex": "lpips_alex", "vgg": "lpips_vgg"}


@dataclass(frozen=True)
class Lpips:
    """LPIPS version 0.1 as published, with the linear weights that torchmetrics ships.

    Images in [0, 1] are mapped to [-1, 1], grey is repeated to three channels. Not monotone under nested
    masks. The network is read at the first call, once for a process, file and device; constructing touches
    no file. Its backbone's weights are torchvision's file in `weights_path` (the file, or its folder), by
    default in torch hub's `checkpoints` folder; they are never downloaded.

    Attributes:
        net: "squeeze" (the smallest, from 17 pixels a side), "alex" (31) or "vgg" (16).
        weights_path: the file of the backbone's weights, or its folder.

    Raises:
        InvalidArgumentError: an unknown net.
    """

    net: str = "squeeze"
    weights_path: str | Path | None = None
    monotone = False
    exponent = None
    upper_bound = DISTANCES["lpips"].upper_bound

    def __post_init__(self) -> None:
        chosen(NETS, self.net, "net")

    @property
    def name(self) -> str:
        """The name: lpips, lpips_alex or lpips_vgg."""
        return NAMES[self.net]

    def __call__(self, a: Images, b: Images) -> PerImage:
        """Compute LPIPS(a, b) of each image, float32, shape (N,), >= 0 without an upper bound.

        For a volume it is the mean over its slices.

        Raises:
            InvalidArgumentError: images below the net's smallest side or of other than 1 or 3 channels, or
                torchvision is missing.
            MissingFileError: the backbone's weights are not there.
            MismatchError: the file holds other weights.
        """
        layers = self._layers(slices_of(a), slices_of(b))
        return means_over_slices(torch.stack([image_means(layer) for layer in layers]).sum(dim=0), len(a))

    def error_map(self, y: Images, y_hat: Images) -> Images:
        """Return LPIPS' own map, >= 0: the layers' maps, resized bilinearly to full size and summed.

        It is the same in all channels. It raises the same errors as the distance itself.
        """
        maps = [
            interpolate(layer, tuple(y.shape[-2:]), mode="bilinear", align_corners=False)
            for layer in self._layers(slices_of(y), slices_of(y_hat))
        ]
        return volumes_of(torch.stack(maps).sum(dim=0), y).expand_as(y)

    def _layers(self, a: Images, b: Images) -> list[Tensor]:
        """Return the weighted difference at each layer, (N, 1, H_k, W_k)."""
        check_size(self.name, a, NETS[self.net].smallest_side)
        a, b = three_channels(self.name, a), three_channels(self.name, b)
        network = _network(self.net, weights_file(self.name, NETS[self.net], self.weights_path), a.device)
        with full_precision(a):
            layers: list[Tensor] = network(a, b)
        return layers


class LpipsNetwork(nn.Module):
    """A backbone and the published weight of each of its channels."""

    shift: Tensor
    scale: Tensor

    def __init__(self, taps: Taps, weights: list[Tensor]) -> None:
        super().__init__()
        self.taps = taps
        self.weights = nn.ParameterList(weights)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))

    def forward(self, a: Images, b: Images) -> list[Tensor]:
        """Return the weighted difference of unit features at each layer, (N, 1, H_k, W_k)."""
        pairs = zip(self._unit_features(a), self._unit_features(b), self.weights, strict=True)
        return [conv2d((left - right).square(), weight) for left, right, weight in pairs]

    def _unit_features(self, images: Images) -> list[Tensor]:
        images = images.contiguous(memory_format=torch.channels_last)  # faster on a CPU
        return [_unit(feature) for feature in self.taps((2 * images - 1 - self.shift) / self.scale)]


def _unit(feature: Tensor) -> Tensor:
    """Normalise to length 1 over the channels; the epsilon below the root keeps the gradient finite at 0."""
    return feature / (feature.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()


@cache
def _network(net: str, path: Path, device: torch.device) -> nn.Module:
    """Load the network once, outside inference mode, whose tensors could not be used in later training."""
    with torch.inference_mode(False):
        backbone = NETS[net]
        taps = Taps(list(features(NAMES[net], backbone, path)), backbone.taps)
        own = packaged(NAMES[net], f"lpips_models/{net}.pth")
        weights = [own[f"lin{k}.model.1.weight"] for k in range(len(backbone.taps))]
        return frozen(LpipsNetwork(taps, weights), device)
