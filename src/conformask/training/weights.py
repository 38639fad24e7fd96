"""Files of weights: written, read into a network, and hashed."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from conformask.errors import MismatchError, failure_of_system
from conformask.storage.as_arrays import hash_of_arrays
from conformask.storage.atomic import atomic_write, existing


def save_weights(state: dict[str, torch.Tensor], path: Path) -> None:
    """Write a state dict as safetensors."""
    with atomic_write(path) as aside:
        aside.write_bytes(save({name: tensor.contiguous().cpu() for name, tensor in state.items()}))


def hash_of_state(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of a state dict."""
    return hash_of_arrays({name: tensor.detach().cpu().numpy() for name, tensor in state.items()})


def load_into(network: nn.Module, path: Path) -> None:
    """Load weights that save_weights wrote into a network.

    Raises:
        MissingFileError: there is no such file.
        MismatchError: the file is damaged, or holds the weights of another network.
    """
    weights = read_weights(path)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise MismatchError(f"{path} contains the weights of another network: {first}") from error


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict that save_weights wrote.

    Raises:
        MissingFileError: there is no such file.
        MismatchError: the file is damaged.
    """
    existing(path)
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        failure = failure_of_system(error)
        if failure is not None:
            raise MismatchError(f"{path} cannot be read, {failure}") from error
        raise MismatchError(f"{path} is damaged ({error}): copy it again, or train again") from error
