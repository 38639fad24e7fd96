"""Common parts of the plugins that run networks of other libraries."""

from collections.abc import Mapping
from importlib import import_module, metadata
from typing import Any

import torch
from torch import Tensor, nn

from conformask.errors import MissingFileError
from conformask.extensions import pip_install
from conformask.fingerprints import fingerprint_of, name_of
from conformask.predictors.custom import CustomPredictor, Run
from conformask.storage.as_json import hash_of

PLAIN = (bool, int, float, str, list, tuple, dict, Tensor)
"""Types of attributes that count as settings."""


def required(module: str) -> Any:
    """Import a module of a library.

    Raises:
        MissingFileError: the library is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise MissingFileError(f"{module} cannot be imported ({error}): {pip_install(library)}") from error


def predictor_of(network: nn.Module, run: Run, library: str, *decisive: object) -> CustomPredictor:
    """Return a network of a library as a predictor; its fingerprint covers weights, code and library version.

    Args:
        network: the network, which is put into eval mode.
        run: a function that runs it on x (N, C, *space) in [0, 1].
        library: the name of the library.
        decisive: other things on which the outputs depend.
    """
    network.eval()
    hashes = [fingerprint_of(part) for part in (network, *decisive)]
    fingerprint = hash_of([library, metadata.version(library), hashes])
    return CustomPredictor(run, name_of(network), fingerprint, network=network)


def settings_of(network: nn.Module) -> Mapping[str, object]:
    """Return the plain attributes of a network and its parts, which its weights do not hold."""
    return {
        f"{prefix}.{name}": value
        for prefix, module in network.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, PLAIN) and not name.startswith("_") and name != "training"
    }


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's weights; the CPU if it has none."""
    weights = next(network.parameters(), None)
    return torch.device("cpu") if weights is None else weights.device
