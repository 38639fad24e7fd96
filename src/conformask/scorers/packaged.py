"""The packaged score: a network trained on many tasks to estimate where outputs are wrong.

packaged.md beside this file describes its training and its limits; research/pretraining trains it.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from conformask.data.perceptual_hashes import WINDOWS, PerceptualHashes
from conformask.networks.any_channels import AnyChannels
from conformask.networks.slices import SliceWise
from conformask.records.size import extra_channels
from conformask.scorers.mask_network import MaskNetwork, to_power
from conformask.storage.as_arrays import read_arrays
from conformask.training.record import read_weights
from conformask.types import Images

WEIGHTS = Path(__file__).with_name("packaged.safetensors")
"""File of the packaged weights, in half precision."""
LOOKS = Path(__file__).with_name("packaged_looks.npz")
"""File of perceptual hashes of the training images, without windows; from research/pretraining/looks.py."""


@dataclass(frozen=True)
class Packaged(MaskNetwork):
    """Head of the packaged network: the mean error, or for lp its power p."""

    name: ClassVar[str] = "packaged"

    def score(self, output: Images) -> Images:
        """Return the expected error, in (0, 1], or its power."""
        return to_power(super().score(output), self.fitted_for.exponent or 1.0)


def packaged_network(x_channels: int, channels: int, dimensions: int) -> AnyChannels | SliceWise:
    """Return the network with its weights; volumes are processed slice by slice, each by itself."""
    network = AnyChannels(x_channels, channels, extra=extra_channels(x_channels, channels))
    network.load_state_dict(network.state_dict() | _weights())
    return network if dimensions == 2 else SliceWise(network, neighbours=0)


def packaged_hashes() -> PerceptualHashes:
    """Return the perceptual hashes of the images that the network was trained on; see `lookalikes`.

    They cover whole images only; the hashes of windows are zero.
    """
    whole = read_arrays(LOOKS)["looks"]
    perceptual_hashes = np.zeros((len(whole), WINDOWS, whole.shape[1]), np.uint8)
    perceptual_hashes[:, 0] = whole
    return perceptual_hashes


@cache
def _weights() -> dict[str, Tensor]:
    stored = read_weights(WEIGHTS)
    return {name: value.float() if value.is_floating_point() else value for name, value in stored.items()}
