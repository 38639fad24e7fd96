"""Initial networks for the training of a scorer."""

from dataclasses import dataclass
from functools import partial
from typing import get_args

from torch import nn

from conformask import names
from conformask.data.scan import DatasetSummary
from conformask.errors import InvalidArgumentError
from conformask.networks.any_channels import AnyChannels
from conformask.networks.slices import SliceWise, channels_of
from conformask.networks.unet import UNet, halvings_for, levels_for
from conformask.scorers.dataset import crop_of
from conformask.scorers.heads import Head
from conformask.scorers.untrained import NETWORKS
from conformask.training.fit import FROM_SCRATCH, seeded

FROM_PACKAGED = 1e-2
"""Learning rate from the packaged network."""
WIDTH, LEVELS = 32, 4
"""Width and levels of a U-Net from scratch; a larger field of view memorises how hard training images are."""


@dataclass(frozen=True)
class NetworkOptions:
    """The score network that `fit_scorer` trains.

    Args:
        module: a module from 2 * (x, y_hat) - 1 on the channel axis to 1 or C channels, for the scorer
            quantile to 2 * C; it is trained on images and their mirror images, built-in ones on all flips and
            turns.
        per_channel: a score with the channels of y_hat instead of one.
        width: channels of the first level of a U-Net, 32 if None; if given, the U-Net is used.
        volume_mode: how the network sees volumes: "slices" (one after the other, from scratch each with its
            neighbours) or "volume" (in three dimensions, from scratch; an axis is not halved while its step
            is more than twice that of the finest); "slices" if None.
        paper_form: the U-Net of the paper, of up to eight levels and with transposed convolutions.
        from_scratch: start from random weights.

    Raises:
        InvalidArgumentError: an unknown volume_mode.

    Examples:
        >>> import conformask as cm
        >>> cm.NetworkOptions(width=16).volume_mode is None
        True
    """

    module: nn.Module | None = None
    per_channel: bool = False
    width: int | None = None
    volume_mode: names.VolumeMode | None = None
    paper_form: bool = False
    from_scratch: bool = False

    def __post_init__(self) -> None:
        modes = get_args(names.VolumeMode)
        if self.volume_mode is not None and self.volume_mode not in modes:
            raise InvalidArgumentError(
                f"volume_mode {self.volume_mode!r} is unknown; choose from {list(modes)}"
            )

    def fits_packaged(self, used_head: Head, outputs: int) -> bool:
        """Return whether training can start from the packaged network."""
        other = self.from_scratch or self.paper_form or self.width is not None or self.volume_mode == "volume"
        return not other and outputs == 1 and used_head.name in ("mask", "error")


def network_for(
    seen: DatasetSummary, used_head: Head, options: NetworkOptions, seed: int, more: int = 0
) -> nn.Module:
    """Return the user's network, else the packaged one where it fits, else one from scratch.

    `more` is the number of channels between x and y_hat, of maps beside y_hat.

    Raises:
        InvalidArgumentError: `volume_mode` is given and the images are planes.
    """
    if options.module is not None:
        return options.module
    dimensions = len(seen.smallest)
    if options.volume_mode is not None and dimensions == 2:
        raise InvalidArgumentError(
            f"volume_mode {options.volume_mode!r} is for volumes, but these images are planes: leave it out"
        )
    outputs = used_head.outputs(seen.channels, options.per_channel)
    name = "packaged" if options.fits_packaged(used_head, outputs) else used_head.name
    if name in NETWORKS:
        return NETWORKS[name](seen.x_channels, seen.channels, dimensions, more)
    with seeded(seed):
        return unet_for(seen, outputs, options, used_head.start, more)


def rate_for(network: nn.Module) -> float:
    """Return the default learning rate, which is larger for the packaged network."""
    return FROM_PACKAGED if is_packaged(network) else FROM_SCRATCH


def is_packaged(network: nn.Module) -> bool:
    """Return whether it is the packaged network, or one trained from it."""
    return isinstance(network.planes if isinstance(network, SliceWise) else network, AnyChannels)


def unet_for(
    seen: DatasetSummary, outputs: int, options: NetworkOptions, start: float, more: int = 0
) -> UNet | SliceWise:
    """Make a U-Net whose initial output is `start` everywhere; `more` as in `network_for`."""
    volumes, channels = len(seen.smallest) == 3, seen.x_channels + more + seen.channels
    width = WIDTH if options.width is None else options.width
    unet = partial(UNet, width=width, paper_form=options.paper_form, residual=not options.paper_form)
    if options.volume_mode == "volume":
        spacing = None if seen.geometry is None else seen.geometry.spacing
        halvings = halvings_for(crop_of(seen.smallest), spacing, LEVELS)
        return unet(channels, outputs, halvings=halvings).start_at(start)
    levels = levels_for(min(crop_of(seen.smallest)[-2:]))
    levels = levels if options.paper_form else min(LEVELS, levels)
    planes = unet(channels_of(channels) if volumes else channels, outputs, levels=levels)
    planes.start_at(start)
    return SliceWise(planes) if volumes else planes
