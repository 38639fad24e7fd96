"""The base of losses that are made of an error map, and sums over pixels, which the exact kernels solve."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from conformask.arithmetic import image_means
from conformask.errors import InvalidArgumentError
from conformask.losses.maps import AnyMap, error_map
from conformask.names import Over
from conformask.records.loss import LossTerms
from conformask.records.threshold import tolerance_of
from conformask.types import ErrorMap, Images, Loss, PerImage


@dataclass(frozen=True, init=False)
class MapLoss(Loss):
    """A loss of an error map under a mask, over the image or over its region."""

    errors: ErrorMap
    regional: bool
    over: ClassVar[Over]

    def __init__(self, errors: AnyMap, *, regional: bool = False, **numbers: Any) -> None:
        for name, value in {"errors": error_map(errors), "regional": regional, **numbers}.items():
            object.__setattr__(self, name, value)

    @property
    def terms(self) -> LossTerms:
        """The terms of this loss, as records keep them."""
        return LossTerms(distance=self.errors.name, over=self.over, region=self.regional, **self._numbers)

    @property
    def _numbers(self) -> dict[str, Any]:
        """The numbers of the aggregate, by their names in records."""
        return {}

    def in_regions(self, regions: bool) -> "MapLoss":
        """Return the loss over the region of each image, or over whole images."""
        return replace(self, regional=regions)

    @property
    def part(self) -> ErrorMap:
        """The error map."""
        return self.errors

    @property
    def upper_bound(self) -> float | None:
        """The largest value of the error map, if it has one."""
        return self.errors.upper_bound


def checked_tolerance(tolerance: float | str, errors: AnyMap) -> float:
    """Return the error above which a pixel is wrong, given as a number, or such as "5%" of the range.

    Raises:
        InvalidArgumentError: it is negative or NaN, or has another unit.
    """
    tolerance = tolerance_of(tolerance, LossTerms(distance=error_map(errors).name), None)
    if not tolerance >= 0:
        raise InvalidArgumentError(f"tolerance = {tolerance:g}: must be an error of at least 0")
    return float(tolerance)


def within(region: Images | None, errors: Images) -> Images:
    """Return the region with the shape of the errors, (N, C, *space); ones where there is none."""
    return torch.ones_like(errors) if region is None else region.float().expand_as(errors)


@dataclass(frozen=True)
class Sums:
    """The loss mean(mask^exponent * error) on given images, divided by mean(mask * shown) if that is given.

    error and shown are float32 with the channels of the masks. Where nothing is shown the loss is 0.
    """

    error: Images
    exponent: float = 1.0
    shown: Images | None = None

    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask, float64.

        The difference of masked float32 images would lose the last digits of small errors, which decide
        whether an exact solution is within the threshold.
        """
        opened = mask.double()
        powered = opened if self.exponent == 1 else opened**self.exponent
        total = image_means(powered * self.error.double())
        if self.shown is None:
            return total
        shown = image_means(opened * self.shown.double())
        return torch.where(shown > 0, total / torch.where(shown > 0, shown, 1.0), 0.0)

    def take(self, places: Tensor) -> "Sums":
        """Return the loss on the images at these places."""
        shown = None if self.shown is None else self.shown[places]
        return replace(self, error=self.error[places], shown=shown)
