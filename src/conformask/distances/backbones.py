"""Backbones of LPIPS and DISTS from torchvision, with weights from an existing file.

Nothing is downloaded, no pickled code is run, and the random state of the program is not changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from conformask.errors import InvalidArgumentError, MismatchError, MissingFileError
from conformask.extensions import pip_install
from conformask.types import Images


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
