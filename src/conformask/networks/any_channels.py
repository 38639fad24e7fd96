"""The network of the packaged score: quick, and with weights that fit images of any channels."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conformask.networks.unet import Down, Residual, padded
from conformask.storage.as_json import Json
from conformask.types import Images

WIDTHS = (24, 48, 96, 128)
"""Channels at half the side, a quarter, and so on."""
FINE = 8
"""Channels at the full side."""
TYPICAL_ERROR = 0.03
"""Errors far below are estimated on a logarithmic scale, those far above on a linear one."""
WINDOW = 5
"""Pixels along a side, in which the steepness of y_hat is averaged."""
FLAT = 5e-4
"""Added to the steepness."""


class AnyChannels(nn.Module):
    """2 * (x, y_hat) - 1, (N, x_channels + channels, H, W) of any size, to the expected error, (N, 1, H, W).

    Each channel of y_hat is seen beside that of x, or the mean of x where x has another number of them, and
    beside the mean of y_hat; what the first layer makes of them is averaged, so that the weights do not
    depend on how many there are. The U-Net behind it starts at half the side and gives four pixels at each
    place. The output is the geometric mean of that and of how steep y_hat is there: on tasks that the weights
    have not seen, the two are wrong in different places.
    """

    def __init__(self, x_channels: int, channels: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.x_channels, self.channels = x_channels, channels
        self.settings: dict[str, Json] = {
            "x_channels": x_channels,
            "channels": channels,
            "widths": list(widths),
        }
        self.multiple = 2 ** len(widths)
        self.first = nn.Conv2d(3, widths[0], 4, stride=2, padding=1)
        self.refined = Residual(widths[0])
        self.down = nn.ModuleList(
            Down(narrow, wide, norm=True, residual=True) for narrow, wide in pairwise(widths)
        )
        above = reversed(list(pairwise(widths)))
        self.up = nn.ModuleList(
            Joined(wide * (1 if wide == widths[-1] else 2), narrow) for narrow, wide in above
        )
        self.four_pixels = nn.Conv2d(2 * widths[0], 4 * FINE, 3, padding=1)
        self.fine = nn.Conv2d(FINE + 3, FINE, 3, padding=1)
        self.out = nn.Conv2d(FINE, 1, 3, padding=1)

    def forward(self, inputs: Images) -> Images:
        """The score, above 0."""
        return (self.expected(inputs) * (steepness((inputs[:, self.x_channels :] + 1) / 2) + FLAT)).sqrt()

    def expected(self, inputs: Images) -> Images:
        """The expected mean error over channels, above 0: what pre-training learns."""
        height, width = inputs.shape[2:]
        planes = self._planes(padded(inputs, (self.multiple,) * 2))
        n, channels = planes.shape[:2]
        features = F.leaky_relu(self.first(planes.flatten(0, 1)), 0.2)
        features = self.refined(features.reshape(n, channels, *features.shape[1:]).mean(dim=1))
        skips = []
        for down in self.down:
            skips.append(features)
            features = down(features)
        for up in self.up:
            features = torch.cat([up(features), skips.pop()], dim=1)
        fine = F.pixel_shuffle(F.relu(self.four_pixels(features)), 2)
        fine = F.relu(self.fine(torch.cat([fine, self._differing(planes)], dim=1)))
        errors: Tensor = TYPICAL_ERROR * F.softplus(self.out(fine))
        return errors[..., :height, :width]

    def _planes(self, inputs: Images) -> Tensor:
        """(N, channels, 3, H, W)."""
        x, y_hat = inputs[:, : self.x_channels], inputs[:, self.x_channels :]
        if self.x_channels != self.channels:
            x = x.mean(dim=1, keepdim=True).expand_as(y_hat)
        return torch.stack([x, y_hat, y_hat.mean(dim=1, keepdim=True).expand_as(y_hat)], dim=2)

    @staticmethod
    def _differing(planes: Tensor) -> Tensor:
        """The means over channels of y_hat, |x - y_hat| and of how far y_hat is from its mean."""
        x, y_hat, mean = planes.unbind(dim=2)
        return torch.stack(
            [y_hat.mean(dim=1), (x - y_hat).abs().mean(dim=1), (y_hat - mean).abs().mean(dim=1)], dim=1
        )


def steepness(images: Images) -> Images:
    """Sum of how far a pixel is from its four neighbours, (N, 1, H, W): mean over channels and a window."""
    around = F.pad(images, (1, 1, 1, 1), mode="replicate")
    rows, columns = around.diff(dim=-2).abs()[..., 1:-1], around.diff(dim=-1).abs()[..., 1:-1, :]
    steps = rows[..., 1:, :] + rows[..., :-1, :] + columns[..., 1:] + columns[..., :-1]
    padded_steps = F.pad(steps.mean(dim=1, keepdim=True), (WINDOW // 2,) * 4, mode="replicate")
    return F.avg_pool2d(padded_steps, WINDOW, 1)


class Joined(nn.Module):
    """A 3x3 convolution, then twice the side."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, 2H, 2W)."""
        enlarged: Tensor = F.interpolate(F.relu(self.norm(self.convolution(features))), scale_factor=2.0)
        return enlarged
