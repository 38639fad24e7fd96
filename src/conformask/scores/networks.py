"""Bare networks, modules with weights and nothing else, and the settings that files keep of them.

Weights of the packaged score fit images of any channels. Channels of x beyond those of y_hat, such as a map
of holes, of noise or of an uncertainty, are separate cues that the packaged weights ignore: only training
learns their effect.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conformask.arrays import Array, Images, window_index
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.masks.kernels import compiled
from conformask.records.reading import Size, extra_channels
from conformask.records.record import Json

PAPER_LEVELS = 8
WIDEST = 8
"""Largest width of a level, as a multiple of the first."""
ANISOTROPIC = 2.0
"""An axis whose step is more than this many times the smallest is not halved."""
SMALLEST_HALVED = 2
"""Length in pixels of the shortest side that is halved."""
HALVINGS = 3
"""Number of halvings of the image before the PatchGAN judges a patch."""


def with_bias(*arguments: Any, bias: bool = True, **options: Any) -> nn.Module:
    """Return a convolution of volumes that always has a bias: torch exports one without wrongly to ONNX."""
    return nn.Conv3d(*arguments, **options)


LAYERS: Mapping[int, tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    2: (nn.Conv2d, nn.BatchNorm2d),
    3: (with_bias, nn.BatchNorm3d),
}
"""Convolution and batch norm, by the number of spatial axes."""


def levels_for(size: int) -> int:
    """Return the paper's 8 levels, or as many as halve a side of `size` pixels down to one."""
    return max(1, min(PAPER_LEVELS, int(math.log2(size))))


def halvings_for(size: Size, spacing: Sequence[float] | None, levels: int) -> list[tuple[int, ...]]:
    """Return the divisors of the sides at each level of a network for volumes: 1 or 2 along each axis.

    An axis is not halved while its step is more than twice the smallest (ANISOTROPIC), nor below two pixels.
    Without a spacing all steps count as equal.
    """
    sides, steps, halvings = list(map(float, size)), list(spacing or (1.0,) * len(size)), []
    for _ in range(levels):
        finest = min(step for step, side in zip(steps, sides, strict=True) if side >= SMALLEST_HALVED)
        by = tuple(
            2 if side >= SMALLEST_HALVED and step <= ANISOTROPIC * finest else 1
            for step, side in zip(steps, sides, strict=True)
        )
        halvings.append(by)
        sides = [side / factor for side, factor in zip(sides, by, strict=True)]
        steps = [step * factor for step, factor in zip(steps, by, strict=True)]
        if max(sides) < SMALLEST_HALVED:
            break
    return halvings


class UNet(nn.Module):
    """A U-Net from images (N, in_channels, *space) of any size to (N, out_channels, *space), unbounded.

    Each level halves the side and doubles the width, up to 8 times the first. By default it enlarges by
    nearest neighbour and a 3x3 convolution, which avoids checkerboard artefacts, and gets its input again at
    full size; `paper_form` has transposed 4x4 convolutions and no such path. With `residual`, each halving is
    followed by a residual block (He et al. 2016). `halvings` makes it a network for volumes: the divisors of
    the sides at each level, as from `halvings_for`, which also determine the number of levels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 32,
        levels: int = 8,
        paper_form: bool = False,
        residual: bool = False,
        halvings: Sequence[Sequence[int]] | None = None,
    ) -> None:
        by = [(2, 2)] * levels if halvings is None else [tuple(factors) for factors in halvings]
        levels = len(by)
        if width < 1 or levels < 1:
            raise InvalidArgumentError(
                f"width = {width}, levels = {levels}: a U-Net needs at least 1 of each"
            )
        if paper_form and halvings is not None:
            raise InvalidArgumentError(
                "the paper's U-Net takes planes only: leave out paper_form for volumes"
            )
        super().__init__()
        self.multiples = tuple(map(math.prod, zip(*by, strict=True)))
        """Multiples that sides are padded to."""
        self.settings: dict[str, Json] = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "width": width,
            "levels": levels,
            "paper_form": paper_form,
            "residual": residual,
        }
        if halvings is not None:
            self.settings["halvings"] = [list(factors) for factors in by]
        widths = [width * min(2**level, WIDEST) for level in range(levels)]
        self.down = nn.ModuleList(
            Down(narrow, wide, by[level], norm=0 < level < levels - 1, residual=residual)
            for level, (narrow, wide) in enumerate(zip([in_channels, *widths], widths, strict=False))
        )
        up = TransposedUp if paper_form else ResizedUp
        self.up = nn.ModuleList(
            up(widths[level] * (1 if level == levels - 1 else 2), widths[max(level - 1, 0)], by[level])
            for level in reversed(range(levels))
        )
        self.sees_input = not paper_form
        convolution, _ = LAYERS[len(by[0])]
        self.out: Any = convolution(width + in_channels * self.sees_input, out_channels, 3, padding=1)

    def start_at(self, value: float) -> "UNet":
        """Make the untrained network return this value everywhere."""
        nn.init.zeros_(self.out.weight)
        nn.init.constant_(self.out.bias, value)
        return self

    def forward(self, image: Images) -> Images:
        """Compute the network's raw output."""
        features = padded(image, self.multiples)
        skips = [features] if self.sees_input else []
        for down in self.down:
            features = down(features)
            skips.append(features)
        skips.pop()  # the deepest features go on themselves
        for up in self.up:
            features = up(features)
            if skips:
                features = torch.cat([features, skips.pop()], dim=1)
        output: Images = self.out(features)
        return output[window_index(tuple(slice(side) for side in image.shape[2:]))]


class Down(nn.Module):
    """A level that halves the sides whose divisor is 2."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        by: tuple[int, ...] = (2, 2),
        *,
        norm: bool,
        residual: bool = False,
    ) -> None:
        super().__init__()
        convolution, batch_norm = LAYERS[len(by)]
        kernel = tuple(4 if factor == 2 else 3 for factor in by)
        self.convolution = convolution(in_channels, out_channels, kernel, stride=by, padding=1, bias=not norm)
        self.norm = batch_norm(out_channels) if norm else nn.Identity()
        self.refined = Residual(out_channels, len(by)) if residual else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Compute (N, in_channels, *space) -> (N, out_channels, *space / by)."""
        refined: Tensor = self.refined(F.leaky_relu(self.norm(self.convolution(features)), 0.2))
        return refined


class Residual(nn.Module):
    """Two 3x3 convolutions and a skip connection around them."""

    def __init__(self, channels: int, dimensions: int = 2) -> None:
        super().__init__()
        convolution, batch_norm = LAYERS[dimensions]
        first, second = (convolution(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.inner = nn.Sequential(first, batch_norm(channels), nn.ReLU(), second, batch_norm(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Compute (N, channels, *space) -> (N, channels, *space)."""
        return F.relu(features + self.inner(features))


class ResizedUp(nn.Module):
    """A level that doubles the sides by nearest neighbour and a 3x3 convolution."""

    def __init__(self, in_channels: int, out_channels: int, by: tuple[int, ...] = (2, 2)) -> None:
        super().__init__()
        convolution, batch_norm = LAYERS[len(by)]
        self.scale = tuple(map(float, by))
        self.convolution = convolution(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm = batch_norm(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Compute (N, in_channels, *space) -> (N, out_channels, *space * by)."""
        return F.relu(self.norm(self.convolution(F.interpolate(features, scale_factor=self.scale))))


class TransposedUp(nn.Module):
    """A level that doubles the side by a transposed 4x4 convolution, as in the paper's networks."""

    def __init__(self, in_channels: int, out_channels: int, by: tuple[int, ...] = (2, 2)) -> None:
        super().__init__()
        self.convolution = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Compute (N, in_channels, H, W) -> (N, out_channels, 2H, 2W)."""
        return F.relu(self.norm(self.convolution(features)))


def padded(image: Images, multiples: Sequence[int]) -> Images:
    """Repeat the last pixels of the image until its sides divide by the multiples."""
    beyond = [-side % multiple for side, multiple in zip(image.shape[2:], multiples, strict=True)]
    return F.pad(image, [end for after in reversed(beyond) for end in (0, after)], mode="replicate")


class PatchGAN(nn.Module):
    """The discriminator of a conditional GAN, which judges patches (Isola et al. 2017).

    Four convolutions, as in the paper, map images (N, in_channels, H, W) of any size to a logit per patch:
    three 4x4 convolutions halve the side, of width, 2 width and 4 width channels; a 3x3 convolution gives the
    logits (N, 1, ceil(H/8), ceil(W/8)), each of which sees 38 x 38 pixels.
    """

    def __init__(self, in_channels: int, *, width: int = 64) -> None:
        super().__init__()
        widths = [in_channels, *(width * 2**level for level in range(HALVINGS))]
        self.down = nn.Sequential(
            *(Down(narrow, wide, norm=level > 0) for level, (narrow, wide) in enumerate(pairwise(widths)))
        )
        self.out = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, image: Images) -> Images:
        """Return the logit of each patch; positive where it looks real."""
        logits: Images = self.out(self.down(padded(image, (2**HALVINGS,) * 2)))
        return logits


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
SHIFT, SMALL, LARGE = 16, 0.05, 4.0
"""Channels of the layers before shifts; the unit of shifts, in which usual ones are near 1; a factor that
brings differences of y_hat from what is around it near 1 too."""
COARSE, SURE = 7, 8.0
"""Side of the window that separates fine from coarse details; slope of the sigmoid in `finer`."""
LEAST, MOST = -9.0, 1.0
"""Limits of the logarithm of an expected error."""


class AnyChannels(nn.Module):
    """Maps 2 * (x, y_hat) - 1, (N, x_channels + channels, H, W), to the expected error, (N, 1, H, W).

    With `shifts` it gives a width in its place, and behind it the shift of each channel of y from y_hat, 0
    at first: (N, 1 + channels, H, W).

    H and W are arbitrary. Each channel of y_hat is paired with that of x, or with the mean of x where x has
    another number of channels, and with the mean of y_hat; the outputs of the first layer are averaged over
    channels, so that the weights do not depend on their number. The last `extra` channels of x are not part
    of the image. The U-Net behind it starts at half the side and outputs four pixels at each place. It also
    gets cues, at its first layer and its last: errors are about proportional to powers of them over decades,
    which the network expresses as a sum of logarithms. Where details were added to x, the powers differ from
    those where noise was removed.
    """

    def __init__(
        self,
        x_channels: int,
        channels: int,
        widths: Sequence[int] = WIDTHS,
        extra: int = 0,
        *,
        shifts: bool = False,
    ) -> None:
        super().__init__()
        self.x_channels, self.channels, self.extra, self.shifts = x_channels, channels, extra, shifts
        self.settings: dict[str, Json] = {
            "x_channels": x_channels,
            "channels": channels,
            "widths": list(widths),
            **({"extra": extra} if extra else {}),
            **({"shifts": True} if shifts else {}),
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
        if shifts:
            self.four_shifts = nn.Conv2d(2 * widths[0], 4 * SHIFT, 3, padding=1)
            self.before_shift = nn.Conv2d(SHIFT + 3, SHIFT, 3, padding=1)
            self.shift = nn.Conv2d(SHIFT, 1, 3, padding=1)
            nn.init.zeros_(self.shift.weight)
            nn.init.zeros_(self.shift.bias)  # type: ignore[arg-type]

    def forward(self, inputs: Images) -> Images:
        """Compute the expected mean error over channels, above 0; with shifts, a width and them."""
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
        of_pixels = F.pixel_shuffle(F.relu(self.four_pixels(features)), 2)
        fine = F.leaky_relu(
            self.fine(torch.cat([of_pixels, self._differing(planes), image_cues / 2], dim=1)), 0.2
        )
        powers = self.powers(torch.cat([image_cues, image_cues * finer(x, y_hat)], dim=1))
        logarithm: Tensor = self.out(fine) + powers
        if self.extra:
            logarithm = logarithm + self.extra_powers(more_cues)
        output = logarithm.float().clamp(LEAST, MOST).exp()
        if self.shifts:
            output = torch.cat([output, self._shifts(features, planes)], dim=1)
        return output[..., :height, :width]

    def _shifts(self, features: Tensor, planes: Tensor) -> Images:
        """Return the shift of each channel, by features of all and by signed differences of its own."""
        of_pixels = F.pixel_shuffle(F.relu(self.four_shifts(features)), 2)
        x, y_hat, mean = planes.unbind(dim=2)
        differences = torch.stack([x - y_hat, y_hat - averaged(y_hat, NEAR), y_hat - mean], dim=2)
        of_channels = of_pixels[:, None].expand(-1, self.channels, -1, -1, -1)
        features = torch.cat([of_channels, LARGE * differences], dim=2)
        shifts: Tensor = self.shift(F.leaky_relu(self.before_shift(features.flatten(0, 1)), 0.2))
        return SMALL * shifts.float().reshape(-1, self.channels, *shifts.shape[2:])

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
    differences = torch.cat([steps, change, near, wide, detail], dim=1)
    return differences.div_(2).add_(FAINT).log_().sub_(USUAL)  # in place: several times less memory


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
    plain = images.dtype in (torch.float32, torch.float64) and not images.requires_grad
    if plain and images.device.type == "cpu" and not torch.compiler.is_exporting():
        planes = images.flatten(0, -3).contiguous().numpy()
        return torch.from_numpy(_averaged(planes, side)).view(images.shape)
    around = F.pad(images, (side // 2,) * 4, mode="replicate")
    rows = mean_of([around[..., at : at + width] for at in range(side)])
    return mean_of([rows[..., at : at + height, :] for at in range(side)])


@compiled
def _averaged(planes: Array, side: int) -> Array:
    """Average planes (N, H, W) by the sums of `mean_of`, in its order and so to the same bits."""
    n, height, width = planes.shape
    half, count, means = side // 2, np.full(1, side, planes.dtype)[0], np.empty_like(planes)
    pixels, rows = np.empty(width + 2 * half, planes.dtype), np.empty((height, width), planes.dtype)
    for k in range(n):
        for i in range(height):
            for j in range(half):
                pixels[j], pixels[half + width + j] = planes[k, i, 0], planes[k, i, width - 1]
            _set(pixels[half:], planes[k, i])
            _set(rows[i], pixels[:width])
            for at in range(1, side):
                _add(rows[i], pixels[at:])
            _divide(rows[i], count)
        for i in range(height):
            _set(means[k, i], rows[max(i - half, 0)])
            for at in range(i - half + 1, i + half + 1):
                _add(means[k, i], rows[min(max(at, 0), height - 1)])
            _divide(means[k, i], count)
    return means


# in functions of their own, loops over a row are vectorised
@compiled
def _set(total: Array, row: Array) -> None:
    for j in range(min(total.size, row.size)):
        total[j] = row[j]


@compiled
def _add(total: Array, row: Array) -> None:
    for j in range(total.size):
        total[j] += row[j]


@compiled
def _divide(total: Array, by: float) -> None:
    for j in range(total.size):
        total[j] /= by


def channel_mean(images: Images) -> Images:
    """Average over channels, (N, C, H, W) to (N, 1, H, W)."""
    return mean_of([images[:, at : at + 1] for at in range(images.shape[1])])


def mean_of(parts: Sequence[Tensor]) -> Tensor:
    """Average tensors of one shape; several times faster than Tensor.mean and avg_pool2d for a few."""
    if len(parts) == 1:
        return parts[0] / 1
    total = parts[0] + parts[1]
    for part in parts[2:]:
        total += part  # in place: without memory for each sum
    return total / len(parts)


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


def settings_of(network: nn.Module) -> dict[str, Json] | None:
    """Return the settings that a file keeps of a built-in network; None for a user's own."""
    return network.settings if isinstance(network, UNet | AnyChannels | SliceWise) else None


def stored_network(settings: Mapping[str, Json], path: Path) -> UNet | AnyChannels | SliceWise:
    """Return the network with the settings that a file holds."""
    of_planes = {name: value for name, value in settings.items() if name != "neighbours"}
    try:
        network = AnyChannels(**of_planes) if "widths" in settings else UNet(**of_planes)
        return SliceWise(network, settings["neighbours"]) if "neighbours" in settings else network
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError, KeyError) as error:
        raise MismatchError(f"{path} contains no settings of a U-Net ({error}): copy it again") from error
