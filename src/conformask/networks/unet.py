"""The U-Net that all networks here are based on (Ronneberger 2015, Isola et al. 2017), and the PatchGAN."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conformask.arithmetic import window_index
from conformask.errors import InvalidArgumentError
from conformask.records.size import Size
from conformask.storage.as_json import Json
from conformask.types import Images

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

    Raises:
        InvalidArgumentError: no width or no levels, or volumes in the paper's form.
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
