"""Distances that follow what people see, SSIM and LPIPS, and the weights they need.

Backbones of LPIPS come from torchvision, their weights from an existing file. Nothing is downloaded, no
pickled code is run, and the random state of the program is not changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad

from conformask.arrays import Array, Images, PerImage, full_precision, image_means
from conformask.errors import InvalidArgumentError, MismatchError, MissingFileError, chosen
from conformask.extensions import pip_install
from conformask.masks.kernels import compiled
from conformask.records.names import DISTANCES


@dataclass(frozen=True)
class Backbone:
    """A torchvision network, and the layers whose activations a distance compares."""

    architecture: str
    taps: tuple[int, ...]
    smallest_side: int
    """The shortest side of an image, in pixels, that leaves at least one value at every tapped layer."""


SQUEEZENET = Backbone("squeezenet1_1", (1, 4, 7, 9, 10, 11, 12), smallest_side=17)
ALEXNET = Backbone("alexnet", (1, 4, 7, 9, 11), smallest_side=31)
VGG16 = Backbone("vgg16", (3, 8, 15, 22, 29), smallest_side=16)


class Taps(nn.Module):
    """A chain of layers that returns the outputs of some of them."""

    def __init__(self, layers: Sequence[nn.Module], taps: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers[: taps[-1] + 1])
        self.taps = taps

    def forward(self, images: Images) -> list[Tensor]:
        """Return the tapped activations, (N, C_k, H_k, W_k), from the shallowest to the deepest."""
        features = []
        for position, layer in enumerate(self.layers):
            images = layer(images)
            if position in self.taps:
                features.append(images)
        return features


def weights_file(name: str, backbone: Backbone, weights_path: str | Path | None) -> Path:
    """Return the file with a backbone's weights: the given one, or torchvision's file name in a folder.

    The folder is the given one or, without any, torch hub's `checkpoints` (below TORCH_HOME).
    """
    url = str(_torchvision(name).get_model_weights(backbone.architecture)["IMAGENET1K_V1"].url)
    hub = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    place = hub if weights_path is None else Path(weights_path).expanduser()
    path = place / hub.name if place.is_dir() else place
    if not path.is_file():
        raise MissingFileError(
            f"{name} needs torchvision's weights of {backbone.architecture}, but there is no file {path}: "
            f"put {url} into the folder {path.parent}, or give the file or its folder as weights_path="
        )
    return path.resolve()


def features(name: str, backbone: Backbone, path: Path) -> nn.Sequential:
    """Load the backbone's layers with the weights in this file, of which only `features.*` is read."""
    with torch.device("meta"):  # saves memory and random numbers: the weights are replaced
        layers: nn.Sequential = _torchvision(name).get_model(backbone.architecture, weights=None).features
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        own = {key.removeprefix("features."): value for key, value in state.items() if key[:9] == "features."}
        layers.load_state_dict(own, assign=True)
    except (AttributeError, EOFError, RuntimeError, TypeError, UnpicklingError) as error:
        raise MismatchError(
            f"{path} does not contain torchvision's weights of {backbone.architecture}, which {name} needs"
        ) from error
    return layers


def packaged(name: str, file: str) -> dict[str, Tensor]:
    """Load the few weights that torchmetrics ships with a distance, as tensors on the CPU."""
    torchmetrics = find_spec("torchmetrics")  # not imported, which takes seconds
    if torchmetrics is None or torchmetrics.origin is None:
        raise InvalidArgumentError(f"distance {name!r} needs torchmetrics: {pip_install('perceptual')}")
    path = Path(torchmetrics.origin).parent / "functional" / "image" / file
    if not path.is_file():
        raise MissingFileError(f"{name} needs {path}: pip install 'torchmetrics>=1.7'")
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _torchvision(name: str) -> Any:
    """Import torchvision.models when it is first needed."""
    try:
        return import_module("torchvision.models")
    except (ImportError, RuntimeError) as error:
        raise InvalidArgumentError(
            f"distance {name!r} needs torchvision: {pip_install('perceptual')} ({error})"
        ) from error


def check_size(name: str, images: Images, smallest_side: int) -> None:
    """Refuse images smaller than a distance's smallest side."""
    if min(images.shape[2:]) < smallest_side:
        raise InvalidArgumentError(
            f"{name} needs images of at least {smallest_side} pixels per side, but these have "
            f"{tuple(images.shape[2:])}"
        )


def three_channels(name: str, images: Images) -> Images:
    """Return (N, 3, *space) in float32: colour unchanged, grey repeated."""
    if images.shape[1] not in (1, 3):
        raise InvalidArgumentError(
            f"{name} needs grey or colour images (1 or 3 channels), but these have {images.shape[1]}"
        )
    return images.float().expand(-1, 3, *images.shape[2:])


def slices_of(images: Images) -> Tensor:
    """Return the slices of volumes as images, (N, C, D, H, W) -> (N D, C, H, W); planes unchanged."""
    return images if images.ndim == 4 else images.transpose(1, 2).flatten(0, 1)


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
        """
        layers = self._layers(slices_of(a), slices_of(b))
        of_slices = torch.stack([image_means(layer) for layer in layers]).sum(dim=0)
        return of_slices.reshape(len(a), -1).mean(dim=1)

    def error_map(self, y: Images, y_hat: Images) -> Images:
        """Return LPIPS' own map, >= 0: the layers' maps, resized bilinearly to full size and summed.

        It is the same in all channels. It raises the same errors as the distance itself.
        """
        maps = [
            interpolate(layer, tuple(y.shape[-2:]), mode="bilinear", align_corners=False)
            for layer in self._layers(slices_of(y), slices_of(y_hat))
        ]
        of_slices = torch.stack(maps).sum(dim=0)
        if y.ndim > 4:  # the inverse of slices_of
            of_slices = of_slices.reshape(len(y), y.shape[2], *of_slices.shape[1:]).transpose(1, 2)
        return of_slices.expand_as(y)

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
        features = self.taps((2 * images - 1 - self.shift) / self.scale)
        # of length 1 over the channels; the epsilon below the root keeps the gradient finite at 0
        return [each / (each.square().sum(dim=1, keepdim=True) + 1e-8).sqrt() for each in features]


@cache
def _network(net: str, path: Path, device: torch.device) -> nn.Module:
    """Load the network once, outside inference mode, whose tensors could not be used in later training."""
    with torch.inference_mode(False):
        backbone = NETS[net]
        taps = Taps(list(features(NAMES[net], backbone, path)), backbone.taps)
        own = packaged(NAMES[net], f"lpips_models/{net}.pth")
        weights = [own[f"lin{k}.model.1.weight"] for k in range(len(backbone.taps))]
        return LpipsNetwork(taps, weights).float().eval().requires_grad_(False).to(device)


Number = TypeVar("Number", float, Tensor)
WINDOW = 11
"""Side of the Gaussian window in pixels, and the shortest side of an image."""
SIGMA = 1.5
"""Standard deviation of the Gaussian window, in pixels."""
_GAUSSIAN = np.exp(-(((np.arange(WINDOW) - WINDOW // 2) / SIGMA) ** 2) / 2)
WEIGHTS = (_GAUSSIAN / _GAUSSIAN.sum()).astype(np.float32)
"""The window along an axis."""
C1, C2 = 0.01**2, 0.03**2
"""Constants added to numerators and denominators, as published."""


@dataclass(frozen=True)
class Ssim:
    """The distance 1 - SSIM with a Gaussian window, data_range 1; not monotone under nested masks.

    The window has 11 pixels along each axis, sigma 1.5.
    """

    name = "ssim"
    monotone = False
    exponent = None
    upper_bound = DISTANCES["ssim"].upper_bound

    def __call__(self, a: Images, b: Images) -> PerImage:
        """Compute 1 - SSIM(a, b) of each image, float32, shape (N,), in [0, 2]."""
        return 1 - _similarity(a, b)[0]

    def error_map(self, y: Images, y_hat: Images) -> Images:
        """Return 1 - SSIM at each pixel, whose mean is the distance."""
        return 1 - _similarity(y, y_hat)[1]


def _similarity(a: Images, b: Images) -> tuple[PerImage, Images]:
    """Return SSIM of each image, and at each pixel; images are reflected at their ends."""
    check_size("ssim", a, WINDOW)
    a, b = a.float(), b.float()
    if a.ndim == 4 and a.device.type == "cpu" and not (a.requires_grad or b.requires_grad):
        planes_a, planes_b = (each.flatten(0, 1).contiguous().numpy() for each in (a, b))
        full = torch.from_numpy(_of_planes(planes_a, planes_b, WEIGHTS)).view(a.shape)
    else:
        full = _of_means(*map(_smooth, (a, b, a * b, (a - b) ** 2)))
    return image_means(full), full


def _of_means(mean_a: Number, mean_b: Number, products: Number, squares: Number) -> Number:
    """Return SSIM by the means of a, b, a b and (a - b)^2 in a window.

    a^2 + b^2 = 2 a b + (a - b)^2, of means and of variances alike: of equal images, SSIM is exactly 1.
    """
    product, square = mean_a * mean_b, (mean_a - mean_b) ** 2
    luminance, covariance, rest = 2 * product + C1, 2 * (products - product) + C2, squares - square
    # no variance is negative but by rounding
    return luminance / (luminance + square) * covariance / (covariance + (rest + abs(rest)) / 2)


def _smooth(images: Images) -> Images:
    """Average over the window around each pixel, in operations that have a gradient."""
    for axis in range(2, images.ndim):
        before, after = (0, 0) * (axis - 2), (0, 0) * (images.ndim - 1 - axis)
        around = pad(images, (*after, WINDOW // 2, WINDOW // 2, *before), mode="reflect")
        parts = [around.narrow(axis, at, images.shape[axis]) for at in range(WINDOW)]
        images = parts[0] * float(WEIGHTS[0])
        for part, weight in zip(parts[1:], WEIGHTS[1:], strict=True):
            images = images + part * float(weight)
    return images


_of_numbers = compiled(_of_means)


@compiled
def _of_planes(a: Array, b: Array, weights: Array) -> Array:
    """Return SSIM at each pixel of planes (N, H, W), in one pass: many times faster."""
    n, height, width = a.shape
    half, full = weights.size // 2, np.empty_like(a)
    # of a row, averaged down the columns: a, b, a b and (a - b)^2; then along the row, too
    columns, means = np.empty((4, width + 2 * half), a.dtype), np.empty((4, width), a.dtype)
    for k in range(n):
        for i in range(height):
            columns[:] = 0
            for at in range(weights.size):
                row, weight = abs(i + at - half), weights[at]
                row = min(row, 2 * (height - 1) - row)
                of_a, of_b = a[k, row], b[k, row]
                for j in range(width):
                    value_a, value_b = of_a[j], of_b[j]
                    columns[0, half + j] += weight * value_a
                    columns[1, half + j] += weight * value_b
                    columns[2, half + j] += weight * (value_a * value_b)
                    columns[3, half + j] += weight * (value_a - value_b) ** 2
            for place in range(4):
                column = columns[place]
                for j in range(half):
                    column[j], column[half + width + j] = column[2 * half - j], column[half + width - 2 - j]
                means[place] = 0
                for at in range(weights.size):
                    _add(means[place], column[at:], weights[at])
            _set_similarity(full[k, i], means)
    return full


# in functions of their own, loops over a row are vectorised
@compiled
def _add(total: Array, row: Array, weight: float) -> None:
    for j in range(total.size):
        total[j] += weight * row[j]


@compiled
def _set_similarity(row: Array, means: Array) -> None:
    for j in range(row.size):
        row[j] = _of_numbers(means[0, j], means[1, j], means[2, j], means[3, j])
