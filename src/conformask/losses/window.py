"""The largest local mean error over the pixels that are shown."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from conformask.errors import InvalidArgumentError, MismatchError
from conformask.losses.map_loss import MapLoss, within
from conformask.losses.maps import AnyMap, errors_for
from conformask.masks.kernels import compiled
from conformask.records.geometry import PhysicalWindow, parsed
from conformask.records.loss import LossTerms
from conformask.storage.as_arrays import Array
from conformask.storage.as_json import Json
from conformask.types import Images, PerImage


@dataclass(frozen=True, init=False)
class Window(MapLoss):
    """The loss max over windows of mean(r m e), the window a square (a cube) inside the image.

    Args:
        errors: an error map, as for `Mean`.
        side: the side of the window in pixels, for all axes or for each; or a length such as "5mm" or "20um",
            where images have a spacing. A window larger than the image is as large as the image.

    Raises:
        InvalidArgumentError: the side is below 1 or not a number of pixels or a length, or the error map is
            not known.

    Example:
        >>> import conformask as cm
        >>> cm.Window("l1", 9).terms.name
        'window(l1, 9 px)'
    """

    side: int | tuple[int, ...] | None
    """The side in pixels; None for a length before the spacing of the images is known."""
    length: str | None
    """The side where it was given as a length, such as 5 mm."""
    monotone = True
    family: ClassVar[Mapping[str, Json]] = {"name": "reciprocal"}

    def __init__(
        self,
        errors: AnyMap,
        side: int | str | tuple[int, ...] | None,
        *,
        regional: bool = False,
        length: str | None = None,
    ) -> None:
        if isinstance(side, str) and side.strip().isdecimal():
            side = int(side)
        if isinstance(side, str):
            side, length = None, side
        if length is not None:
            parsed(length)
        super().__init__(errors, regional=regional, side=_checked_side(side, length), length=length)

    def with_pixels(self, window: Callable[[str], PhysicalWindow]) -> "Window":
        """Return the loss with its length converted to pixels."""
        if self.side is not None or self.length is None:
            return self
        converted = window(self.length)
        return replace(self, side=converted.sides, length=converted.length)

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

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> "WindowOfImages":
        """Return the loss on these images, for masks with this many channels."""
        errors = errors_for(self.errors, y, y_hat, channels)
        if self.side is None:
            raise InvalidArgumentError(
                f"the window of {self.length} has no number of pixels yet: these images state no spacing"
            )
        return WindowOfImages(within(region, errors) * errors, sides_of(self.side, errors.ndim - 2))


def _checked_side(side: int | tuple[int, ...] | None, length: str | None) -> int | tuple[int, ...] | None:
    sides = () if side is None else side if isinstance(side, tuple) else (side,)
    if any(each < 1 or int(each) != each for each in sides):
        raise InvalidArgumentError(f"window = {side}: must be a whole number of pixels, at least 1")
    if side is None and length is None:
        raise InvalidArgumentError("a window needs a side, such as 9 (pixels) or 5mm")
    return int(side) if isinstance(side, float) else side


@dataclass(frozen=True)
class WindowOfImages:
    """The loss max over windows of mean(mask * error) on given images."""

    error: Images
    sides: tuple[int, ...]

    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask, float64; without a gradient."""
        shown = (mask.detach().double() * self.error.double()).cpu().numpy()
        means = box_means(shown, tuple(map(min, self.sides, shown.shape[2:])))
        return torch.from_numpy(means.reshape(len(means), -1).max(axis=1)).to(mask.device)

    def take(self, places: Tensor) -> "WindowOfImages":
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
