"""Distances that follow what people see, SSIM, MS-SSIM, LPIPS and DISTS, and the weights they need.

Backbones of LPIPS and DISTS from torchvision, with weights from an existing file.

Nothing is downloaded, no pickled code is run, and the random state of the program is not changed.
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
from torch.nn.functional import avg_pool2d, avg_pool3d, conv2d, interpolate

from conformask.arithmetic import full_precision, image_means
from conformask.arrays import Images, PerImage
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

    Raises:
        InvalidArgumentError: torchvision is missing.
        MissingFileError: no such file; says where it is published and where to put it.
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
    """Load the backbone's layers with the weights in this file, of which only `features.*` is read.

    Raises:
        InvalidArgumentError: torchvision is missing.
        MismatchError: the file cannot be read or is of another network.
    """
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
    """Load the few weights that torchmetrics ships with a distance, as tensors on the CPU.

    Raises:
        MissingFileError: this torchmetrics does not ship them.
    """
    path = Path(str(files("torchmetrics.functional.image"))) / file
    if not path.is_file():
        raise MissingFileError(f"{name} needs {path}: pip install 'torchmetrics>=1.7'")
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def frozen(network: nn.Module, device: torch.device) -> nn.Module:
    """Return the network ready for use: float32, eval mode, no gradients of its weights, on this device."""
    return network.float().eval().requires_grad_(False).to(device)


def _torchvision(name: str) -> Any:
    """Import torchvision.models when it is first needed."""
    try:
        return import_module("torchvision.models")
    except (ImportError, RuntimeError) as error:
        raise InvalidArgumentError(
            f"distance {name!r} needs torchvision: {pip_install('perceptual')} ({error})"
        ) from error


def check_size(name: str, images: Images, smallest_side: int) -> None:
    """Refuse images smaller than a distance's smallest side.

    Raises:
        InvalidArgumentError: a side is shorter; says the sides needed and found.
    """
    if min(images.shape[2:]) < smallest_side:
        raise InvalidArgumentError(
            f"{name} needs images of at least {smallest_side} pixels per side, but these have "
            f"{tuple(images.shape[2:])}"
        )


def three_channels(name: str, images: Images) -> Images:
    """Return (N, 3, *space) in float32: colour unchanged, grey repeated.

    Raises:
        InvalidArgumentError: neither 1 nor 3 channels.
    """
    if images.shape[1] not in (1, 3):
        raise InvalidArgumentError(
            f"{name} needs grey or colour images (1 or 3 channels), but these have {images.shape[1]}"
        )
    return images.float().expand(-1, 3, *images.shape[2:])


def slices_of(images: Images) -> Tensor:
    """Return the slices of volumes as images, (N, C, D, H, W) -> (N D, C, H, W); planes unchanged."""
    return images if images.ndim == 4 else images.transpose(1, 2).flatten(0, 1)


def volumes_of(slices: Tensor, images: Images) -> Images:
    """Return slices (N D, C, H, W) as volumes like `images`, the inverse of slices_of; planes unchanged."""
    if images.ndim == 4:
        return slices
    return slices.reshape(len(images), images.shape[2], *slices.shape[1:]).transpose(1, 2)


def means_over_slices(values: Tensor, n: int) -> Tensor:
    """Return the mean over the slices of each of n volumes, (N D,) -> (N,)."""
    return values.reshape(n, -1).mean(dim=1)


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
        network = _vgg(weights_file(self.name, VGG16, self.weights_path), a.device)
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
def _vgg(path: Path, device: torch.device) -> nn.Module:
    """Load the network once, outside inference mode, whose tensors could not be used in later training."""
    with torch.inference_mode(False):
        layers = [
            BlurredPool() if isinstance(layer, nn.MaxPool2d) else layer
            for layer in features(Dists.name, VGG16, path)
        ]
        own = packaged(Dists.name, "dists_models/weights.pt")
        return frozen(DistsNetwork(Taps(layers, VGG16.taps), own["alpha"], own["beta"]), device)


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
        network = _lpips_network(
            self.net, weights_file(self.name, NETS[self.net], self.weights_path), a.device
        )
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
def _lpips_network(net: str, path: Path, device: torch.device) -> nn.Module:
    """Load the network once, outside inference mode, whose tensors could not be used in later training."""
    with torch.inference_mode(False):
        backbone = NETS[net]
        taps = Taps(list(features(NAMES[net], backbone, path)), backbone.taps)
        own = packaged(NAMES[net], f"lpips_models/{net}.pth")
        weights = [own[f"lin{k}.model.1.weight"] for k in range(len(backbone.taps))]
        return frozen(LpipsNetwork(taps, weights), device)


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
        """Compute 1 - SSIM(a, b) of each image, float32, shape (N,), in [0, 2].

        Raises:
            InvalidArgumentError: an image is smaller than the window.
        """
        return 1 - _similarity(a, b)[0]

    def error_map(self, y: Images, y_hat: Images) -> Images:
        """Return 1 - SSIM at each pixel, whose mean is the distance.

        Raises:
            InvalidArgumentError: an image is smaller than the window.
        """
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


BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""The published exponents, from the finest scale to the coarsest."""
SMALLEST_SIDE = WINDOW * 2 ** (len(BETAS) - 1)
"""Shortest side, 176 pixels: halved four times, an image must still hold the window."""
POOLED = {4: avg_pool2d, 5: avg_pool3d}
"""Pooling functions by the number of axes of a batch."""
NOTHING_ALIKE = 1e-8
"""Similarities up to this count as 0, so that no gradient of their power overflows."""


@dataclass(frozen=True)
class MsSsim:
    """The distance 1 - prod_j relu(similarity_j)^beta_j: contrast at four scales, SSIM at the fifth.

    The window is SSIM's, data_range 1. Negative similarities count as 0 (torchmetrics' normalize="relu"),
    hence values in [0, 1]: an image with such a scale is at distance 1 and gives gradient 0. Not monotone
    under nested masks.
    """

    name = "ms_ssim"
    monotone = False
    exponent = None
    upper_bound = DISTANCES["ms_ssim"].upper_bound

    def __call__(self, a: Images, b: Images) -> PerImage:
        """Compute 1 - MS-SSIM(a, b) of each image, float32, shape (N,), in [0, 1].

        Raises:
            InvalidArgumentError: a side is shorter than 176 pixels.
        """
        check_size(self.name, a, SMALLEST_SIDE)
        with full_precision(a):
            return 1 - _power(_similarities(a.float(), b.float())).prod(dim=1)


def _similarities(a: Images, b: Images) -> Tensor:
    """Return the similarity at each scale, (N, 5)."""
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes seconds

    similarities = []
    for _ in BETAS:
        similarity, contrast = structural_similarity_index_measure(
            a, b, sigma=1.5, reduction="none", data_range=1.0, return_contrast_sensitivity=True
        )
        similarities.append(contrast)
        a, b = POOLED[a.ndim](a, 2), POOLED[b.ndim](b, 2)
    return torch.stack([*similarities[:-1], similarity], dim=1)


def _power(similarities: Tensor) -> Tensor:
    """Return relu(s)^beta, whose gradient is 0, not infinite, where s is not positive."""
    alike = similarities > NOTHING_ALIKE
    betas = similarities.new_tensor(BETAS)
    return torch.where(alike, similarities, 1.0).pow(betas) * alike
