"""A network of planes applied to volumes: slice by slice, each with its neighbours as channels."""

import torch
from torch import Tensor, nn

from conformask.networks.any_channels import AnyChannels
from conformask.networks.unet import UNet
from conformask.storage.as_json import Json
from conformask.types import Images

NEIGHBOURS = 1
"""Number of neighbours on each side of a slice."""
AT_ONCE = 16
"""Number of slices in a pass where no gradient is kept."""


class SliceWise(nn.Module):
    """Maps volumes (N, C, D, H, W) to (N, out_channels, D, H, W) by a network of planes.

    The network gets the channels of a slice and of its neighbours; beyond the ends, the first and the last
    slice are repeated. It works on a stack of any depth, at the speed of the network of planes.
    """

    def __init__(self, planes: UNet | AnyChannels, neighbours: int = NEIGHBOURS) -> None:
        super().__init__()
        self.planes: nn.Module = planes
        self.neighbours = neighbours
        self.settings: dict[str, Json] = {**planes.settings, "neighbours": neighbours}

    def forward(self, volume: Images) -> Images:
        """Compute the network's raw output."""
        n, channels, depth, height, width = volume.shape
        offsets = range(-self.neighbours, self.neighbours + 1)
        slices = torch.stack([shifted(volume, offset) for offset in offsets], dim=1)
        planes = slices.permute(0, 3, 1, 2, 4, 5).reshape(n * depth, len(offsets) * channels, height, width)
        if torch.is_grad_enabled() or torch.compiler.is_exporting():
            output: Tensor = self.planes(planes)
        else:
            output = torch.cat([self.planes(part) for part in torch.split(planes, AT_ONCE)])
        volumes: Tensor = output.reshape(n, depth, -1, height, width).transpose(1, 2)
        return volumes


def shifted(volume: Images, offset: int) -> Tensor:
    """Return at each slice the one `offset` further on, and the first or last slice beyond the ends."""
    depth = volume.shape[2]
    places = (torch.arange(depth, device=volume.device) + offset).clamp(0, depth - 1)
    return volume.index_select(2, places)


def channels_of(channels: int, neighbours: int = NEIGHBOURS) -> int:
    """Return the number of channels that the network of planes takes."""
    return channels * (2 * neighbours + 1)
