"""The score that comes with conformask: a network that has learnt of many tasks where outputs err.

packaged.md beside it says on what it was trained, and its limits; research/pretraining trains it.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from conformask.data.lookalikes import WINDOWS, Looks
from conformask.networks.any_channels import AnyChannels
from conformask.networks.slices import SliceWise
from conformask.records.size import extra_channels
from conformask.scorers.mask_network import MaskNetwork, to_power
from conformask.storage.as_arrays import read_arrays
from conformask.training.record import read_weights
from conformask.types import Images

WEIGHTS = Path(__file__).with_name("packaged.safetensors")
"""In half precision."""
LOOKS = Path(__file__).with_name("packaged_looks.npz")
"""Of the images that they have learnt from, without windows; research/pretraining/looks.py writes it."""


@dataclass(frozen=True)
class Packaged(MaskNetwork):
    """Estimates the mean error; for lp its power p."""

    name: ClassVar[str] = "packaged"

    def score(self, output: Images) -> Images:
        """The expected error, in (0, 1], or its power."""
        return to_power(super().score(output), self.fitted_for.exponent or 1.0)


def packaged_network(x_channels: int, channels: int, dimensions: int) -> AnyChannels | SliceWise:
    """The network with its weights; of volumes it sees one slice after the other, each by itself."""
    network = AnyChannels(x_channels, channels, extra=extra_channels(x_channels, channels))
    network.load_state_dict(network.state_dict() | _weights())
    return network if dimensions == 2 else SliceWise(network, neighbours=0)


def packaged_looks() -> Looks:
    """By what the images are recognised again that the network has learnt from; see `lookalikes`.

    Whole images alone: of their windows, nothing is kept.
    """
    whole = read_arrays(LOOKS)["looks"]
    looks = np.zeros((len(whole), WINDOWS, whole.shape[1]), np.uint8)
    looks[:, 0] = whole
    return looks


@cache
def _weights() -> dict[str, Tensor]:
    stored = read_weights(WEIGHTS)
    return {name: value.float() if value.is_floating_point() else value for name, value in stored.items()}
