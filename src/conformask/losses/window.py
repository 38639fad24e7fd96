"""Losses of local mean errors: of windows in which hidden pixels count as right, and around shown pixels."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from conformask.arrays import Images, PerImage
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.losses.base import LossOfImages
from conformask.losses.maps import AnyMap, MapLoss, Sums, checked_tolerance, errors_for, within
from conformask.masks.families import Binary, Reciprocal
from conformask.masks.family import Family, sizes_of
from conformask.masks.kernels import compiled
from conformask.records.geometry import PhysicalWindow, parsed
from conformask.records.record import Array, Json

SMALLEST_ERROR = 1e-6
"""Local mean errors below this are dimmed alike by the oracle for window losses."""


@dataclass(frozen=True, init=False)
class WindowLoss(MapLoss):
    """A loss with a window: a square, or a cube."""

    side: int | tuple[int, ...] | None
    """The side in pixels; None for a length before the spacing of the images is known."""
    length: str | None
    """The side where it was given as a length: as given, or with `side` the true one, such as 5 mm."""

    def __init__(
        self,
        errors: AnyMap,
        side: int | str | tuple[int, ...] | None,
        *,
        regional: bool = False,
        length: str | None = None,
        **numbers: Any,
    ) -> None:
        if isinstance(side, str) and side.strip().isdecimal():
            side = int(side)
        if isinstance(side, str):
            side, length = None, side
        if side is None and length is not None:
            parsed(length)
        checked = _checked_side(side, length)
        super().__init__(errors, regional=regional, side=checked, length=length, **numbers)

    def with_pixels(self, window: Callable[[str], PhysicalWindow]) -> "WindowLoss":
        """Return the loss with its length converted to pixels."""
        if self.side is not None or self.length is None:
            return self
        converted = window(self.length)
        return replace(self, side=converted.sides, length=converted.length)

    @property
    def _numbers(self) -> dict[str, Any]:
        return {"window": self.side, "length": self.length}

    def sides(self, dimensions: int) -> tuple[int, ...]:
        """Return the sides of the window along each axis, in pixels."""
        if self.side is None:
            raise InvalidArgumentError(
                f"the window of {self.length} has no number of pixels yet: these images state no spacing"
            )
        return sides_of(self.side, dimensions)


@dataclass(frozen=True, init=False)
class LocalLoss(WindowLoss):
    """A loss of the mean error in the window around each pixel that is shown, e_j as for `Local`."""

    family: ClassVar[Mapping[str, Json]] = {"name": "binary", "bounds": "largest", "kappa": 0.0}

    @property
    def score_window(self) -> int | tuple[int, ...] | None:
        """The side of the window that a score is averaged over, to estimate local means."""
        return self.side


@dataclass(frozen=True, init=False)
class Local(LocalLoss):
    """The loss max over shown pixels j of e_j, the mean error in the window around j; 0 if nothing is shown.

    e_j = sum_k r_k e_k / sum_k r_k over the pixels k of the window around j that lie in the image, r the
    region. Neither the mask nor what lies outside image or region counts as right.

    Args:
        errors: an error map, as for `Mean`.
        side: the side of the window in pixels, for all axes or for each; an even one reaches one pixel
            further before j than after it. Or a length such as "5mm" or "20um", where images have a spacing:
            the next odd number of pixels.

    Raises:
        InvalidArgumentError: the side is below 1 or not a number of pixels or a length, or the error map is
            not known.

    Examples:
        >>> import conformask as cm
        >>> cm.Local("l1", 9).terms.name
        'local(l1, 9 px)'
    """

    over = "local"
    monotone = True

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> "LargestShown":
        """Return the loss on these images, for masks with this many channels."""
        errors = errors_for(self.errors, y, y_hat, channels)
        return LargestShown(local_means(errors, region, self.sides(errors.ndim - 2))[0])


@dataclass(frozen=True, init=False)
class LocalShare(LocalLoss):
    """The loss "share of the shown pixels with e_j > tolerance", e_j as for `Local`; 0 if nothing is shown.

    Not monotone: hiding a pixel whose surroundings are right makes the share larger.

    Args:
        errors: an error map, as for `Mean`.
        side: the side of the window, as for `Local`.
        tolerance: the local mean error above which a pixel is wrong, at least 0; or such as "10%" of the
            range.

    Raises:
        InvalidArgumentError: as for `Local`, or the tolerance is negative.

    Examples:
        >>> import conformask as cm
        >>> cm.LocalShare("l1", 9, 0.1).terms.name
        'local_share(l1, 9 px > 0.1)'
    """

    tolerance: float
    over = "local_share"
    relative = True
    upper_bound = 1.0

    def __init__(
        self,
        errors: AnyMap,
        side: int | str | tuple[int, ...] | None,
        tolerance: float | str,
        *,
        regional: bool = False,
        length: str | None = None,
    ) -> None:
        tolerance = checked_tolerance(tolerance, errors)
        super().__init__(errors, side, regional=regional, length=length, tolerance=tolerance)

    @property
    def _numbers(self) -> dict[str, Any]:
        return {**super()._numbers, "tolerance": self.tolerance}

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> Sums:
        """Return the loss on these images, for masks with this many channels."""
        errors = errors_for(self.errors, y, y_hat, channels)
        means, inside = local_means(errors, region, self.sides(errors.ndim - 2))
        shown = inside.float()
        return Sums(shown * (means > self.tolerance), shown=shown)


@dataclass(frozen=True, init=False)
class MaskedWindow(WindowLoss):
    """The loss max over windows of mean(r m e), the window a square (a cube) inside the image.

    What is hidden, and what lies outside the region, counts as right: a window that is half hidden may be
    twice as wrong where it is shown. `Local` is about what is shown.

    Args:
        errors: an error map, as for `Mean`.
        side: the side of the window in pixels, for all axes or for each; or a length such as "5mm" or "20um",
            where images have a spacing, for the next odd number of pixels. A window larger than the image is
            as large as the image.

    Raises:
        InvalidArgumentError: the side is below 1 or not a number of pixels or a length, or the error map is
            not known.

    Examples:
        >>> import conformask as cm
        >>> cm.MaskedWindow("l1", 9).terms.name
        'window(l1, 9 px)'
    """

    over = "window"
    monotone = True
    family: ClassVar[Mapping[str, Json]] = {"name": "reciprocal"}

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> "WindowOfImages":
        """Return the loss on these images, for masks with this many channels."""
        errors = errors_for(self.errors, y, y_hat, channels)
        return WindowOfImages(within(region, errors) * errors, self.sides(errors.ndim - 2))


def _checked_side(side: int | tuple[int, ...] | None, length: str | None) -> int | tuple[int, ...] | None:
    sides = () if side is None else side if isinstance(side, tuple) else (side,)
    if any(each < 1 or int(each) != each for each in sides):
        raise InvalidArgumentError(f"window = {side}: must be a whole number of pixels, at least 1")
    if side is None and length is None:
        raise InvalidArgumentError("a window needs a side, such as 9 (pixels) or 5mm")
    return int(side) if isinstance(side, float) else side


@dataclass(frozen=True)
class LargestShown(LossOfImages):
    """The largest over shown pixels of a map of local means, (N, C, *space) float64, 0 outside the region."""

    means: Images

    @property
    def images(self) -> Images:
        """The local means."""
        return self.means

    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask, float64; a pixel is shown if its mask is above 0."""
        return self.means.where(mask.detach() > 0, 0.0).flatten(1).amax(dim=1)

    def beyond(self, threshold: float) -> Images:
        """Return 1 where a pixel must be hidden, else 0; float32."""
        return (self.means > threshold).float()

    def take(self, places: Tensor) -> "LargestShown":
        """Return the loss on the images at these places."""
        return LargestShown(self.means[places])

    def curve(
        self, score: Images, family: Family, grid: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """Compute (loss, mask size), for binary masks in one pass: the largest mean below each level."""
        if not isinstance(family, Binary):
            return super().curve(score, family, grid)
        means = self.means.flatten(1).cpu().numpy()
        largest = np.zeros((len(score), len(grid) + 1))
        for row, places, values in zip(largest, family.first_shown(score, grid), means, strict=True):
            np.maximum.at(row, places, values)
        return np.maximum.accumulate(largest, axis=1)[:, :-1], sizes_of(score, family, grid)

    def critical_lambda(self, score: Images, family: Family, threshold: float) -> Float[Tensor, "n"]:
        """Return the exact critical lambda: none of the pixels that must be hidden is shown."""
        return family.critical_lambda(score, self.beyond(threshold), 1.0, 0.0)

    def oracle(self, threshold: float) -> Images:
        """Return the smallest masks: they hide what must be hidden, and nothing else."""
        return 1 - self.beyond(threshold)


def local_means(
    errors: Images, region: Images | None, sides: tuple[int, ...]
) -> tuple[Float[Tensor, "n c *space"], Bool[Tensor, "n c *space"]]:
    """Return the mean error in the window around each pixel, and which pixels are inside the region.

    A window counts the pixels that lie in image and region, weighted by the region; outside the region the
    mean is 0. Float64.
    """
    weights = within(region, errors)
    inside = weights > 0
    total, weight = (_padded_means(each, sides) for each in (weights * errors, weights))
    means = np.divide(total, weight, out=np.zeros_like(total), where=inside.cpu().numpy())
    return torch.from_numpy(means).to(errors.device), inside


def window_sums(values: Images, sides: tuple[int, ...]) -> Float[Tensor, "n c *space"]:
    """Return the sum over the window around each pixel, cut off at the border; float64, any sign."""
    above, below = (_padded_means(part.clamp(min=0), sides) for part in (values, -values))
    return torch.from_numpy((above - below) * math.prod(sides)).to(values.device)


def _padded_means(values: Images, sides: tuple[int, ...]) -> Array:
    """Return the mean in the window around each pixel, with zeros outside the image; shape of values."""
    padding = [(0, 0), (0, 0), *((side // 2, (side - 1) // 2) for side in sides)]
    return box_means(np.pad(values.detach().double().cpu().numpy(), padding), sides)


@dataclass(frozen=True)
class WindowOfImages(LossOfImages):
    """The loss max over windows of mean(mask * error) on given images."""

    error: Images
    sides: tuple[int, ...]

    @property
    def images(self) -> Images:
        """The errors."""
        return self.error

    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask, float64; without a gradient."""
        shown = (mask.detach().double() * self.error.double()).cpu().numpy()
        means = box_means(shown, tuple(map(min, self.sides, shown.shape[2:])))
        return torch.from_numpy(means.reshape(len(means), -1).max(axis=1)).to(mask.device)

    def take(self, places: Tensor) -> "WindowOfImages":
        """Return the loss on the images at these places."""
        return replace(self, error=self.error[places])

    def oracle(self, threshold: float) -> Images:
        """Return masks of the reciprocal family on the true local mean errors: not always the smallest."""
        family, score = Reciprocal(epsilon=SMALLEST_ERROR), around(self.error, self.sides)
        lambdas = self.critical_lambda(score, family, threshold)
        return family.apply(score, family.level(score, lambdas))


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
    """Return the sides of the window along each axis."""
    sides = (side,) * dimensions if isinstance(side, int) else side
    if len(sides) != dimensions:
        raise MismatchError(
            f"a window of {' x '.join(map(str, sides))} pixels does not fit images with {dimensions} axes"
        )
    return sides


def around(values: Images, side: int | tuple[int, ...]) -> Images:
    """Average over the window around each pixel, cut off at the border; shape of values, float32."""
    sides = sides_of(side, values.ndim - 2)
    sums, counts = (_padded_means(each, sides) for each in (values, torch.ones_like(values[:1, :1])))
    return torch.from_numpy(sums / counts).to(values.device, torch.float32)
