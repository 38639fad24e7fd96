"""Bare networks, modules with weights and nothing else, and the settings that files keep of them."""

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from conformask.errors import MismatchError
from conformask.networks.any_channels import AnyChannels
from conformask.networks.slices import SliceWise
from conformask.networks.unet import UNet
from conformask.storage.as_json import Json


def settings_of(network: nn.Module) -> dict[str, Json] | None:
    """Return the settings that a file keeps of a built-in network; None for a user's own."""
    return network.settings if isinstance(network, UNet | AnyChannels | SliceWise) else None


def stored_unet(settings: Mapping[str, Json], path: Path) -> UNet:
    """Return the U-Net with the settings that a file holds; refuse networks of slices."""
    network = stored_network(settings, path)
    if not isinstance(network, UNet):
        raise MismatchError(f"{path} contains the settings of another network: copy it again")
    return network


def stored_network(settings: Mapping[str, Json], path: Path) -> UNet | AnyChannels | SliceWise:
    """Return the network with the settings that a file holds.

    Raises:
        MismatchError: the settings are not valid.
    """
    of_planes = {name: value for name, value in settings.items() if name != "neighbours"}
    try:
        network = AnyChannels(**of_planes) if "widths" in settings else UNet(**of_planes)
        return SliceWise(network, settings["neighbours"]) if "neighbours" in settings else network
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError, KeyError) as error:
        raise MismatchError(f"{path} contains no settings of a U-Net ({error}): copy it again") from error
