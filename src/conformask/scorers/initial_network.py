"""Initial networks for the training of a scorer."""

from dataclasses import dataclass
from functools import partial
from typing import get_args

from torch import nn

from conformask.data.scan import DatasetSummary
from conformask.errors import InvalidArgumentError
from conformask.names import By
from conformask.networks.any_channels import AnyChannels
from conformask.networks.slices import SliceWise, channels_of
from conformask.networks.unet import UNet, halvings_for, levels_for
from conformask.scorers.dataset import crop_of
from conformask.scorers.heads import Head
from conformask.scorers.untrained import NETWORKS
from conformask.training.fit import seeded

FROM_SCRATCH, FROM_PACKAGED = 5e-4, 1e-2
"""Learning rates: from random weights, and from the packaged network."""
WIDTH, LEVELS = 32, 4
"""Width and levels of a U-Net from scratch; a larger field of view memorises how hard training images are."""


@dataclass(frozen=True)
class NetworkOptions:
    """The options of `fit_scorer` that determine the network.

    Raises:
        InvalidArgumentError: an unknown name for by.
    """

    per_channel: bool = False
    width: int | None = None
    by: str | None = None
    paper_form: bool = False
    scratch: bool = False

    def __post_init__(self) -> None:
        if self.by is not None and self.by not in get_args(By):
            raise InvalidArgumentError(f"by {self.by!r} is unknown; choose from {list(get_args(By))}")

    def fits_packaged(self, used_head: Head, outputs: int) -> bool:
        """Return whether training can start from the packaged network."""
        other = self.scratch or self.paper_form or self.width is not None or self.by == "volume"
        return not other and outputs == 1 and used_head.name in ("mask", "error")


def network_for(seen: DatasetSummary, used_head: Head, asked: NetworkOptions, seed: int) -> nn.Module:
    """Return the network for images like these: the packaged one where it fits, else one from scratch.

    Raises:
        InvalidArgumentError: `by` is given and the images are planes.
    """
    dimensions = len(seen.smallest)
    if asked.by is not None and dimensions == 2:
        raise InvalidArgumentError(
            f"by {asked.by!r} is for volumes, but these images are planes: leave it out"
        )
    outputs = used_head.outputs(seen.channels, asked.per_channel)
    name = "packaged" if asked.fits_packaged(used_head, outputs) else used_head.name
    if name in NETWORKS:
        return NETWORKS[name](seen.x_channels, seen.channels, dimensions)
    with seeded(seed):
        return unet_for(seen, outputs, asked, used_head.start)


def rate_for(network: nn.Module) -> float:
    """Return the default learning rate, which is larger for the packaged network."""
    return FROM_PACKAGED if is_packaged(network) else FROM_SCRATCH


def is_packaged(network: nn.Module) -> bool:
    """Return whether it is the packaged network, or one trained from it."""
    return isinstance(network.planes if isinstance(network, SliceWise) else network, AnyChannels)


def unet_for(seen: DatasetSummary, outputs: int, asked: NetworkOptions, start: float) -> UNet | SliceWise:
    """Make a U-Net whose initial output is `start` everywhere."""
    volumes, channels = len(seen.smallest) == 3, seen.x_channels + seen.channels
    width = WIDTH if asked.width is None else asked.width
    unet = partial(UNet, width=width, paper_form=asked.paper_form, residual=not asked.paper_form)
    if asked.by == "volume":
        spacing = None if seen.geometry is None else seen.geometry.spacing
        halvings = halvings_for(crop_of(seen.smallest), spacing, LEVELS)
        return unet(channels, outputs, halvings=halvings).start_at(start)
    levels = levels_for(min(crop_of(seen.smallest)[-2:]))
    levels = levels if asked.paper_form else min(LEVELS, levels)
    planes = unet(channels_of(channels) if volumes else channels, outputs, levels=levels)
    planes.start_at(start)
    return SliceWise(planes) if volumes else planes
