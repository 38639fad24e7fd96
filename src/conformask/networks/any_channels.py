"""The network of the packaged score: quick, and with weights that fit images of any channels.

Channels of x beyond those of y_hat, such as a map of holes, of noise or of an uncertainty, are cues of their
own, of which the packaged weights know nothing: only training finds out what they tell.
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
"""Channels at half the side, a quarter, and so on."""
FINE, FINER = 8, 12
"""Channels at the full side: what the U-Net gives, and what is made of it and the cues."""
FAINT = 5e-4
"""Added before a logarithm is taken: below it, differences count for little."""
USUAL = -4.0
"""A usual logarithm of a difference, which is seen as 0."""
NEAR, WIDE = 5, 13
"""Pixels along the sides of the windows in which differences are averaged, one after the other."""
CUES, EXTRA_CUES = 8, 4
"""Of images, and of each channel of x that is no part of the image."""
COARSE, SURE = 7, 8.0
"""The side of the window that tells fine details from coarse ones; the slope of the sigmoid in `finer`."""
LEAST, MOST = -9.0, 1.0
"""Of the logarithm of an expected error."""


class AnyChannels(nn.Module):
    """2 * (x, y_hat) - 1, (N, x_channels + channels, H, W) of any size, to the expected error, (N, 1, H, W).

    Each channel of y_hat is seen beside that of x, or the mean of x where x has another number of them, and
    beside the mean of y_hat; what the first layer makes of them is averaged, so that the weights do not
    depend on how many there are. The last `extra` channels of x are no part of the image. The U-Net behind
    it starts at half the side and gives four pixels at each place. It sees cues too, at its first layer and
    its last: errors are about proportional to powers of them over decades, which the network gives as its
    logarithm is a sum of theirs and of what it adds. Where details were added to x, the powers are others
    than where noise was taken away.
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
        """The expected mean error over channels, above 0."""
        height, width = inputs.shape[2:]
        inputs = padded(inputs, (self.multiple,) * 2)
        planes = self._planes(inputs)
        n, channels = planes.shape[:2]
        x, y_hat = planes[:, :, 0], planes[:, :, 1]
        seen = cues(x, y_hat)
        features = F.leaky_relu(self.first(planes.flatten(0, 1)), 0.2)
        features = mean_of(features.reshape(n, channels, *features.shape[1:]).unbind(dim=1))
        features = features + self.first_cues(seen)
        if self.extra:
            own = extra_cues(inputs[:, self.x_channels - self.extra : self.x_channels])
            features = features + self.first_extra(own)
        features = self.refined(features)
        skips = []
        for down in self.down:
            skips.append(features)
            features = down(features)
        for up in self.up:
            features = torch.cat([up(features), skips.pop()], dim=1)
        fine = F.pixel_shuffle(F.relu(self.four_pixels(features)), 2)
        fine = F.leaky_relu(self.fine(torch.cat([fine, self._differing(planes), seen / 2], dim=1)), 0.2)
        powers = self.powers(torch.cat([seen, seen * finer(x, y_hat)], dim=1))
        logarithm: Tensor = self.out(fine) + powers
        if self.extra:
            logarithm = logarithm + self.extra_powers(own)
        return logarithm[..., :height, :width].float().clamp(LEAST, MOST).exp()

    def _planes(self, inputs: Images) -> Tensor:
        """(N, channels, 3, H, W)."""
        x, y_hat = inputs[:, : self.x_channels - self.extra], inputs[:, self.x_channels :]
        if x.shape[1] != self.channels:
            x = channel_mean(x).expand_as(y_hat)
        return torch.stack([x, y_hat, channel_mean(y_hat).expand_as(y_hat)], dim=2)

    @staticmethod
    def _differing(planes: Tensor) -> Tensor:
        """The means over channels of y_hat, |x - y_hat| and of how far y_hat is from its mean."""
        x, y_hat, mean = planes.unbind(dim=2)
        return torch.cat(
            [mean[:, :1], channel_mean((x - y_hat).abs()), channel_mean((y_hat - mean).abs())], dim=1
        )


def compared(x: Images, channels: int) -> Images:
    """What of x is compared with y_hat, (N, channels, *space): its first channels, or their mean."""
    x = x[:, : x.shape[1] - extra_channels(x.shape[1], channels)]
    return x if x.shape[1] == channels else channel_mean(x).expand(-1, channels, *x.shape[2:])


def extra_cues(extra: Images) -> Images:
    """What channels in [-1, 1] that are no image may tell, (N, EXTRA_CUES * extra, H, W).

    Their values, the logarithms of them above -1, and the means of both near a pixel.
    """
    logarithms = ((extra + 1) / 2 + FAINT).log() - USUAL
    here = torch.cat([extra, logarithms], dim=1)
    return torch.cat([here, averaged(here, NEAR)], dim=1)


def cues(x: Images, y_hat: Images) -> Images:
    """Logarithms of what tells of errors, (N, CUES, H, W), of images in [-1, 1] of the same channels.

    Steps of y_hat and |x - y_hat|, both of a pixel, near it and in a wide window; steps of x near it; how
    far y_hat is from its mean in 3 x 3 pixels.
    """
    steps, change = steps_of(y_hat), channel_mean((x - y_hat).abs())
    near = averaged(torch.cat([steps, change, steps_of(x)], dim=1), NEAR)
    wide = averaged(near[:, :2], WIDE)
    detail = channel_mean((y_hat - averaged(y_hat, 3)).abs())
    differences = torch.cat([steps, change, near, wide, detail], dim=1) / 2
    return (differences + FAINT).log() - USUAL


def finer(x: Images, y_hat: Images) -> Images:
    """From 0 where y_hat is smoother than x to 1 where its details are finer, (N, 1, H, W).

    Of the first, |x - y_hat| is the noise that was taken away; of the second, what was made up.
    """
    return torch.sigmoid(SURE * (fineness(y_hat) - fineness(x)))


def fineness(images: Images) -> Images:
    """The logarithm of how strong details of a pixel are beside those of a few, (N, 1, H, W)."""
    mean = channel_mean(images)
    smooth = averaged(mean, 3)
    fine, coarse = (mean - smooth).abs(), (smooth - averaged(smooth, COARSE)).abs()
    details = averaged(torch.cat([fine, coarse], dim=1), WIDE) / 2 + FAINT
    return details[:, :1].log() - details[:, 1:].log()


def steps_of(images: Images) -> Images:
    """Sum of how far a pixel is from its four neighbours, (N, 1, H, W): the mean over channels."""
    around = F.pad(images, (1, 1, 1, 1), mode="replicate")
    rows, columns = around.diff(dim=-2).abs()[..., 1:-1], around.diff(dim=-1).abs()[..., 1:-1, :]
    steps = rows[..., 1:, :] + rows[..., :-1, :] + columns[..., 1:] + columns[..., :-1]
    return channel_mean(steps)


def averaged(images: Images, side: int) -> Images:
    """Means over windows of side x side pixels around each; edges are repeated."""
    height, width = images.shape[-2:]
    around = F.pad(images, (side // 2,) * 4, mode="replicate")
    rows = mean_of([around[..., at : at + width] for at in range(side)])
    return mean_of([rows[..., at : at + height, :] for at in range(side)])


def channel_mean(images: Images) -> Images:
    """(N, C, H, W) to (N, 1, H, W)."""
    return mean_of([images[:, at : at + 1] for at in range(images.shape[1])])


def mean_of(parts: Sequence[Tensor]) -> Tensor:
    """Of tensors of one shape; several times as quick as Tensor.mean and avg_pool2d where they are few."""
    return reduce(torch.add, parts) / len(parts)


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
