"""The U-Net of every network in the stream (Ronneberger 2015, in the form of Isola et al. 2017)."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conformask.errors import InvalidArgumentError, MismatchError
from conformask.storage.as_json import Json
from conformask.types import Images

PAPER_LEVELS = 8
WIDEST = 8
"""Times the width of the first level, at most."""


def stored_unet(settings: Mapping[str, Json], path: Path) -> "UNet":
    """The network of the settings that a file holds.

    Raises:
        MismatchError: they are none.
    """
    try:
        return UNet(**settings)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise MismatchError(f"{path} holds no settings of a U-Net ({error}): copy it again") from error


def levels_for(size: int) -> int:
    """The paper's 8 levels, or as many as halve a side of `size` pixels down to one."""
    return max(1, min(PAPER_LEVELS, int(math.log2(size))))


class UNet(nn.Module):
    """Images (N, in_channels, H, W) of any size to (N, out_channels, H, W), unbounded.

    Each level halves the side and doubles the width, up to 8 times the first. The default enlarges by
    nearest neighbour and a 3x3 convolution, which leaves no checkerboard, and sees its input again at
    full size; `paper_form` has transposed 4x4 convolutions and no such path. `residual`: each halving is
    followed by a residual block (He et al. 2016).

    Raises:
        InvalidArgumentError: no width or no levels.
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
    ) -> None:
        if width < 1 or levels < 1:
            raise InvalidArgumentError(f"width = {width}, levels = {levels}: a U-Net has at least 1 of each")
        super().__init__()
        self.settings = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "width": width,
            "levels": levels,
            "paper_form": paper_form,
            "residual": residual,
        }
        widths = [width * min(2**level, WIDEST) for level in range(levels)]
        self.down = nn.ModuleList(
            Down(narrow, wide, norm=0 < level < levels - 1, residual=residual)
            for level, (narrow, wide) in enumerate(zip([in_channels, *widths], widths, strict=False))
        )
        up = TransposedUp if paper_form else ResizedUp
        self.up = nn.ModuleList(
            up(widths[level] * (1 if level == levels - 1 else 2), widths[max(level - 1, 0)])
            for level in reversed(range(levels))
        )
        self.sees_input = not paper_form
        self.out = nn.Conv2d(width + in_channels * self.sees_input, out_channels, 3, padding=1)

    def start_at(self, value: float) -> "UNet":
        """Let the untrained network return this value everywhere."""
        nn.init.zeros_(self.out.weight)
        nn.init.constant_(self.out.bias, value)  # type: ignore[arg-type]
        return self

    def forward(self, image: Images) -> Images:
        """The network's raw output."""
        features, (height, width) = padded(image, 2 ** len(self.down)), image.shape[-2:]
        skips = [features] if self.sees_input else []
        for down in self.down:
            features = down(features)
            skips.append(features)
        skips.pop()
        for up in self.up:
            features = up(features)
            if skips:
                features = torch.cat([features, skips.pop()], dim=1)
        output: Images = self.out(features)
        return output[..., :height, :width]


class Down(nn.Module):
    """Halves the side."""

    def __init__(self, in_channels: int, out_channels: int, *, norm: bool, residual: bool = False) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=not norm)
        self.norm = nn.BatchNorm2d(out_channels) if norm else nn.Identity()
        self.refined = Residual(out_channels) if residual else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H/2, W/2)."""
        refined: Tensor = self.refined(F.leaky_relu(self.norm(self.convolution(features)), 0.2))
        return refined


class Residual(nn.Module):
    """Two 3x3 convolutions and a path around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.inner = nn.Sequential(
            first, nn.BatchNorm2d(channels), nn.ReLU(), second, nn.BatchNorm2d(channels)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels, H, W) to the same."""
        return F.relu(features + self.inner(features))


class ResizedUp(nn.Module):
    """Doubles the side by nearest neighbour and a 3x3 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, 2H, 2W)."""
        return F.relu(self.norm(self.convolution(F.interpolate(features, scale_factor=2.0))))


class TransposedUp(nn.Module):
    """Doubles the side by a transposed 4x4 convolution, as the paper's networks do."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, 2H, 2W)."""
        return F.relu(self.norm(self.convolution(features)))


def padded(image: Images, multiple: int) -> Images:
    """The image, its last row and column repeated until its sides divide by `multiple`."""
    bottom, right = (-side % multiple for side in image.shape[-2:])
    return F.pad(image, (0, right, 0, bottom), mode="replicate")
