"""Distances that follow what people see, SSIM and LPIPS, and the weights they need.

Backbones of LPIPS come from torchvision, their weights from an existing file. Nothing is downloaded, no
pickled code is run, and the random state of the program is not changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

from conformask.arrays import Images, PerImage, full_precision, image_means
from conformask.errors import InvalidArgumentError, MismatchError, MissingFileError, chosen
from conformask.extensions import pip_install
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
    path = Path(str(files("torchmetrics.functional.image"))) / file
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


WINDOW = 11
"""Side of the Gaussian window in pixels, and the shortest side of an image."""
SIGMA = 1.5
"""Standard deviation of the Gaussian window, in pixels."""
C1, C2 = 0.01**2, 0.03**2
"""Constants added to numerators and denominators, as published."""
LARGEST_DENSE = 512
"""Longest side, in pixels, along which the window is applied as a dense matrix."""


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


def _similarity(a: Images, b: Images) -> tuple[Tensor, Tensor]:
    check_size("ssim", a, WINDOW)
    dense = max(a.shape[2:]) <= LARGEST_DENSE
    with full_precision(a):
        value, full = (_by_matrices if dense else _by_torchmetrics)(a.float(), b.float())
    return value.reshape(len(a)), full.reshape(a.shape)


def _by_torchmetrics(a: Images, b: Images) -> tuple[Tensor, Tensor]:
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes seconds

    value, full = structural_similarity_index_measure(
        a, b, sigma=SIGMA, reduction="none", data_range=1.0, return_full_image=True
    )
    return value, full


def _by_matrices(a: Images, b: Images) -> tuple[Tensor, Tensor]:
    """Compute the numbers of _by_torchmetrics much faster, as matrix products of a separable window."""
    smooth = torch.cat((a, b, a * a, b * b, a * b))
    for axis, side in enumerate(a.shape[2:], start=2):
        smooth = (smooth.movedim(axis, -1) @ _window(side, a.device).T).movedim(-1, axis)
    mean_a, mean_b, aa, bb, ab = smooth.chunk(5)
    variances = (aa - mean_a**2).clamp(min=0) + (bb - mean_b**2).clamp(min=0)
    covariance = ab - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    full = luminance * (2 * covariance + C2) / (variances + C2)
    return image_means(full), full


@cache
def _window(side: int, device: torch.device) -> Tensor:
    """Return the Gaussian window along a side, reflected at its ends, as a matrix (side, side)."""
    with torch.inference_mode(False):
        offsets = torch.arange(WINDOW) - WINDOW // 2
        weights = torch.exp(-((offsets / SIGMA) ** 2) / 2)
        places = (torch.arange(side)[:, None] + offsets).abs()
        places = side - 1 - (side - 1 - places).abs()
        matrix = torch.zeros(side, side)
        return matrix.scatter_add_(1, places, (weights / weights.sum()).expand(side, -1)).to(device)
