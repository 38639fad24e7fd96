"""The network of the packaged score: fast, and with weights that fit images of any channels.

Channels of x beyond those of y_hat, such as a map of holes, of noise or of an uncertainty, are separate cues
that the packaged weights ignore: only training learns their effect.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conformask.networks.unet import Down, Residual, padded
from conformask.records.size import extra_channels
from conformask.storage.as_json import Json
from conformask.types import Images

WIDTHS = (24, 48, 96, 128)
"""Numbers of channels at half the side, a quarter, and so on."""
FINE, FINER = 8, 12
"""Channels at the full side: output of the U-Net, and of the layer that combines it with the cues."""
FAINT = 5e-4
"""Constant added before a logarithm: differences below it count for little."""
USUAL = -4.0
"""Typical logarithm of a difference, which is shifted to 0."""
NEAR, WIDE = 5, 13
"""Sides in pixels of the windows in which differences are averaged, one after the other."""
CUES, EXTRA_CUES = 8, 4
"""Number of cues from images, and from each channel of x that is not part of the image."""
COARSE, SURE = 7, 8.0
"""Side of the window that separates fine from coarse details; slope of the sigmoid in `finer`."""
LEAST, MOST = -9.0, 1.0
"""Limits of the logarithm of an expected error."""


class AnyChannels(nn.Module):
    """Maps 2 * (x, y_hat) - 1, (N, x_channels + channels, H, W), to the expected error, (N, 1, H, W).

    H and W are arbitrary. Each channel of y_hat is paired with that of x, or with the mean of x where x has
    another number of channels, and with the mean of y_hat; the outputs of the first layer are averaged over
    channels, so that the weights do not depend on their number. The last `extra` channels of x are not part
    of the image. The U-Net behind it starts at half the side and outputs four pixels at each place. It also
    gets cues, at its first layer and its last: errors are about proportional to powers of them over decades,
    which the network expresses as a sum of logarithms. Where details were added to x, the powers differ from
    those where noise was removed.
    """

    def __init__(
        self, x_channels: int, channels: int, widths: Sequence[int] = WIDTHS, extra: int = 0
    ) -> None:
        super().__init__()
        self.x_channels, self.channels, self.extra = x_channels, channels, extra
        self.settings: dict[str, Json] = {
            "x_channels": x_channels,
            "channels": channels,
            "widths": list(widths),
            **({"extra": extra} if extra else {}),
        }
        self.multiple = 2 ** len(widths)
        self.first = nn.Conv2d(3, widths[0], 4, stride=2, padding=1)
        self.first_cues = nn.Conv2d(CUES, widths[0], 4, stride=2, padding=1)
        self.refined = Residual(widths[0])
        self.down = nn.ModuleList(
            Down(narrow, wide, norm=True, residual=True) for narrow, wide in pairwise(widths)
        )
        above = reversed(list(pairwise(widths)))
        self.up = nn.ModuleList(
            Joined(wide * (1 if wide == widths[-1] else 2), narrow) for narrow, wide in above
        )
        self.four_pixels = nn.Conv2d(2 * widths[0], 4 * FINE, 3, padding=1)
        self.fine = nn.Conv2d(FINE + 3 + CUES, FINER, 3, padding=1)
        self.out = nn.Conv2d(FINER, 1, 3, padding=1)
        self.powers = nn.Conv2d(2 * CUES, 1, 1)
        nn.init.zeros_(self.powers.weight)
        nn.init.constant_(self.powers.bias, USUAL)  # type: ignore[arg-type]
        if extra:
            self.first_extra = nn.Conv2d(EXTRA_CUES * extra, widths[0], 4, stride=2, padding=1, bias=False)
            self.extra_powers = nn.Conv2d(EXTRA_CUES * extra, 1, 1, bias=False)
            nn.init.zeros_(self.first_extra.weight)
            nn.init.zeros_(self.extra_powers.weight)

    def forward(self, inputs: Images) -> Images:
        """Compute the expected mean error over channels, above 0."""
        height, width = inputs.shape[2:]
        inputs = padded(inputs, (self.multiple,) * 2)
        planes = self._planes(inputs)
        n, channels = planes.shape[:2]
        x, y_hat = planes[:, :, 0], planes[:, :, 1]
        image_cues = cues(x, y_hat)
        features = F.leaky_relu(self.first(planes.flatten(0, 1)), 0.2)
        features = mean_of(features.reshape(n, channels, *features.shape[1:]).unbind(dim=1))
        features = features + self.first_cues(image_cues)
        if self.extra:
            more_cues = extra_cues(inputs[:, self.x_channels - self.extra : self.x_channels])
            features = features + self.first_extra(more_cues)
        features = self.refined(features)
        skips = []
        for down in self.down:
            skips.append(features)
            features = down(features)
        for up in self.up:
            features = torch.cat([up(features), skips.pop()], dim=1)
        fine = F.pixel_shuffle(F.relu(self.four_pixels(features)), 2)
        fine = F.leaky_relu(self.fine(torch.cat([fine, self._differing(planes), image_cues / 2], dim=1)), 0.2)
        powers = self.powers(torch.cat([image_cues, image_cues * finer(x, y_hat)], dim=1))
        logarithm: Tensor = self.out(fine) + powers
        if self.extra:
            logarithm = logarithm + self.extra_powers(more_cues)
        return logarithm[..., :height, :width].float().clamp(LEAST, MOST).exp()

    def _planes(self, inputs: Images) -> Tensor:
        """Return triples of x, y_hat and mean y_hat, (N, channels, 3, H, W)."""
        x, y_hat = inputs[:, : self.x_channels - self.extra], inputs[:, self.x_channels :]
        if x.shape[1] != self.channels:
            x = channel_mean(x).expand_as(y_hat)
        return torch.stack([x, y_hat, channel_mean(y_hat).expand_as(y_hat)], dim=2)

    @staticmethod
    def _differing(planes: Tensor) -> Tensor:
        """Return channel means of y_hat, |x - y_hat|, and |y_hat - its channel mean|."""
        x, y_hat, mean = planes.unbind(dim=2)
        return torch.cat(
            [mean[:, :1], channel_mean((x - y_hat).abs()), channel_mean((y_hat - mean).abs())], dim=1
        )


def compared(x: Images, channels: int) -> Images:
    """Return the channels of x to compare with y_hat, (N, channels, *space): the first, or their mean."""
    x = x[:, : x.shape[1] - extra_channels(x.shape[1], channels)]
    return x if x.shape[1] == channels else channel_mean(x).expand(-1, channels, *x.shape[2:])


def extra_cues(extra: Images) -> Images:
    """Compute cues from channels in [-1, 1] that are not an image, (N, EXTRA_CUES * extra, H, W).

    They are the values, the logarithms of how far they are above -1, and the means of both near a pixel.
    """
    logarithms = ((extra + 1) / 2 + FAINT).log() - USUAL
    here = torch.cat([extra, logarithms], dim=1)
    return torch.cat([here, averaged(here, NEAR)], dim=1)


def cues(x: Images, y_hat: Images) -> Images:
    """Compute logarithms of differences that indicate errors, (N, CUES, H, W), for images in [-1, 1].

    x and y_hat have the same channels. The cues are steps of y_hat and |x - y_hat|, both at a pixel, near it
    and in a wide window; steps of x near it; the distance of y_hat from its mean in 3 x 3 pixels.
    """
    steps, change = steps_of(y_hat), channel_mean((x - y_hat).abs())
    near = averaged(torch.cat([steps, change, steps_of(x)], dim=1), NEAR)
    wide = averaged(near[:, :2], WIDE)
    detail = channel_mean((y_hat - averaged(y_hat, 3)).abs())
    differences = torch.cat([steps, change, near, wide, detail], dim=1) / 2
    return (differences + FAINT).log() - USUAL


def finer(x: Images, y_hat: Images) -> Images:
    """Return 0 where y_hat is smoother than x to 1 where its details are finer, (N, 1, H, W).

    In the first case |x - y_hat| is noise that was removed, in the second it is invented detail.
    """
    return torch.sigmoid(SURE * (fineness(y_hat) - fineness(x)))


def fineness(images: Images) -> Images:
    """Return the log ratio of details of one pixel to details of a few pixels, (N, 1, H, W)."""
    mean = channel_mean(images)
    smooth = averaged(mean, 3)
    fine, coarse = (mean - smooth).abs(), (smooth - averaged(smooth, COARSE)).abs()
    details = averaged(torch.cat([fine, coarse], dim=1), WIDE) / 2 + FAINT
    return details[:, :1].log() - details[:, 1:].log()


def steps_of(images: Images) -> Images:
    """Sum the differences of a pixel from its four neighbours, (N, 1, H, W), averaged over channels."""
    around = F.pad(images, (1, 1, 1, 1), mode="replicate")
    rows, columns = around.diff(dim=-2).abs()[..., 1:-1], around.diff(dim=-1).abs()[..., 1:-1, :]
    steps = rows[..., 1:, :] + rows[..., :-1, :] + columns[..., 1:] + columns[..., :-1]
    return channel_mean(steps)


def averaged(images: Images, side: int) -> Images:
    """Average over windows of side x side pixels around each pixel; edges are repeated."""
    height, width = images.shape[-2:]
    around = F.pad(images, (side // 2,) * 4, mode="replicate")
    rows = mean_of([around[..., at : at + width] for at in range(side)])
    return mean_of([rows[..., at : at + height, :] for at in range(side)])


def channel_mean(images: Images) -> Images:
    """Average over channels, (N, C, H, W) to (N, 1, H, W)."""
    return mean_of([images[:, at : at + 1] for at in range(images.shape[1])])


def mean_of(parts: Sequence[Tensor]) -> Tensor:
    """Average tensors of one shape; several times faster than Tensor.mean and avg_pool2d for a few."""
    return reduce(torch.add, parts) / len(parts)


class Joined(nn.Module):
    """A 3x3 convolution, followed by doubling of the side."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Compute (N, in_channels, H, W) -> (N, out_channels, 2H, 2W)."""
        enlarged: Tensor = F.interpolate(F.relu(self.norm(self.convolution(features))), scale_factor=2.0)
        return enlarged
