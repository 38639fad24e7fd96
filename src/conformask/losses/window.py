"""The largest local mean error over the pixels that are shown."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from conformask.errors import MismatchError
from conformask.losses.image import within
from conformask.losses.maps import errors_for
from conformask.masks.kernels import compiled
from conformask.records.loss import LossTerms
from conformask.storage.as_json import Json
from conformask.types import Array, ErrorMap, Images, PerImage


@dataclass(frozen=True)
class Window:
    """The loss max over windows of mean(r m e), the window a square (a cube) inside the image."""

    errors: ErrorMap
    side: int | tuple[int, ...]
    """Side in pixels, for all axes or for each; at most the side of the image."""
    regional: bool = False
    length: str | None = None
    """The side as it was asked for, such as 5 mm."""
    monotone = True
    relative = False
    own_bounds = False
    family: ClassVar[Mapping[str, Json]] = {"name": "reciprocal"}
    exponent = None

    @property
    def terms(self) -> LossTerms:
        """The terms of this loss, as records keep them."""
        return LossTerms(
            distance=self.errors.name,
            over="window",
            window=self.side,
            length=self.length,
            region=self.regional,
        )

    @property
    def upper_bound(self) -> float | None:
        """The largest value of the error map, if it has one."""
        return self.errors.upper_bound

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> "Windows":
        """Return the loss on these images, for masks with this many channels."""
        errors = errors_for(self.errors, y, y_hat, channels)
        return Windows(within(region, errors) * errors, sides_of(self.side, errors.ndim - 2))


@dataclass(frozen=True)
class Windows:
    """The loss max over windows of mean(mask * error) on given images."""

    error: Images
    sides: tuple[int, ...]

    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask, float64; without a gradient."""
        shown = (mask.detach().double() * self.error.double()).cpu().numpy()
        means = box_means(shown, tuple(map(min, self.sides, shown.shape[2:])))
        return torch.from_numpy(means.reshape(len(means), -1).max(axis=1)).to(mask.device)

    def take(self, places: Tensor) -> "Windows":
        """Return the loss on the images at these places."""
        return replace(self, error=self.error[places])


def box_means(values: Array, sides: tuple[int, ...]) -> Array:
    """Compute the mean in each window of these sides inside the image, (N, C, *space) float64."""
    for axis, side in enumerate(sides, start=2):
        outer, length, inner = math.prod(values.shape[:axis]), values.shape[axis], values.shape[axis + 1 :]
        means = running_means(values.reshape(outer, length, math.prod(inner)), side)
        values = means.reshape(*values.shape[:axis], length - side + 1, *inner)
    return values


@compiled
def running_means(values: Array, side: int) -> Array:
    """Average `side` neighbours along the middle axis of (outer, length, inner) float64, by running sums."""
    outer, length, inner = values.shape
    means = np.empty((outer, length - side + 1, inner))
    for o in range(outer):
        total = np.zeros(inner)
        for place in range(length):
            for i in range(inner):
                total[i] += values[o, place, i]
            if place >= side:
                for i in range(inner):
                    total[i] -= values[o, place - side, i]
            if place >= side - 1:
                for i in range(inner):
                    means[o, place - side + 1, i] = max(total[i], 0.0) / side
    return means


def sides_of(side: int | tuple[int, ...], dimensions: int) -> tuple[int, ...]:
    """Return the sides of the window along each axis.

    Raises:
        MismatchError: the window has another number of axes.
    """
    sides = (side,) * dimensions if isinstance(side, int) else side
    if len(sides) != dimensions:
        raise MismatchError(
            f"a window of {' x '.join(map(str, sides))} pixels does not fit images with {dimensions} axes"
        )
    return sides


def around(values: Images, side: int | tuple[int, ...]) -> Images:
    """Average over the window around each pixel, cut off at the border; shape of values, float32."""
    sides = sides_of(side, values.ndim - 2)
    padding = [(0, 0), (0, 0), *((length // 2, (length - 1) // 2) for length in sides)]
    padded = (
        np.pad(each.double().cpu().numpy(), padding) for each in (values, torch.ones_like(values[:1, :1]))
    )
    sums, counts = (box_means(each, sides) for each in padded)
    return torch.from_numpy(sums / counts).to(values.device, torch.float32)
