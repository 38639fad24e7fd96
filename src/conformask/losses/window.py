"""The largest local mean error of what is shown."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from conformask.losses.image import within
from conformask.losses.maps import errors_for
from conformask.records.loss import LossTerms
from conformask.storage.as_json import Json
from conformask.types import ErrorMap, Images, PerImage


@dataclass(frozen=True)
class Window:
    """max over windows of mean(r m e), the window a square (a cube) inside the image."""

    errors: ErrorMap
    side: int
    """In pixels; of a smaller image its own side."""
    regional: bool = False
    monotone = True
    relative = False
    own_bounds = False
    family: ClassVar[Mapping[str, Json]] = {"name": "reciprocal"}
    exponent = None

    @property
    def terms(self) -> LossTerms:
        """Its words."""
        return LossTerms(distance=self.errors.name, over="window", window=self.side, region=self.regional)

    @property
    def upper_bound(self) -> float | None:
        """That of the map."""
        return self.errors.upper_bound

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> "Windows":
        """The loss of these images, for masks of so many channels."""
        errors = errors_for(self.errors, y, y_hat, channels)
        return Windows(within(region, errors) * errors, self.side)


@dataclass(frozen=True)
class Windows:
    """max over windows of mean(mask * error) of given images."""

    error: Images
    side: int

    def of(self, mask: Images) -> PerImage:
        """The loss of each image under its mask, float64."""
        return box_means(mask.double() * self.error.double(), self.side).flatten(1).amax(dim=1)

    def take(self, places: Tensor) -> "Windows":
        """Those of the images at these places."""
        return replace(self, error=self.error[places])


def box_means(values: Images, side: int) -> Images:
    """The mean in each window that lies inside the image, by running sums: as quick for any side."""
    for axis in range(2, values.ndim):
        length = min(side, values.shape[axis])
        sums = F.pad(values.cumsum(axis).movedim(axis, -1), (1, 0))
        values = ((sums[..., length:] - sums[..., :-length]) / length).clamp(min=0).movedim(-1, axis)
    return values


def around(values: Images, side: int) -> Images:
    """The mean in the window around each pixel, cut off at the border; with the shape of values."""
    ones = torch.ones_like(values[:1, :1])
    return _spread(values, side) / _spread(ones, side)


def _spread(values: Images, side: int) -> Images:
    """The sum in the window around each pixel."""
    for axis in range(2, values.ndim):
        before, after = side // 2, (side - 1) // 2
        sums = F.pad(values.cumsum(axis).movedim(axis, -1), (1, 0))
        n = sums.shape[-1] - 1
        places = torch.arange(n, device=values.device)
        high, low = (places + after + 1).clamp(max=n), (places - before).clamp(min=0)
        values = (sums[..., high] - sums[..., low]).movedim(-1, axis)
    return values
