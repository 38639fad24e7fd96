"""The base of losses that are made of an error map and know the region of each image."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from conformask.losses.maps import AnyMap, checked_tolerance, error_map
from conformask.names import Over
from conformask.records.loss import LossTerms
from conformask.types import ErrorMap, Images, Loss


@dataclass(frozen=True, init=False)
class MapLoss(Loss):
    """A loss of an error map under a mask, over the image or over its region."""

    errors: ErrorMap
    regional: bool

    def __init__(self, errors: AnyMap, *, regional: bool = False, **numbers: Any) -> None:
        for name, value in {"errors": error_map(errors), "regional": regional, **numbers}.items():
            object.__setattr__(self, name, value)

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


@dataclass(frozen=True, init=False)
class WrongPixelLoss(MapLoss):
    """A share of pixels, by which of them are wrong: their error is above the tolerance."""

    tolerance: float
    over: ClassVar[Over]
    upper_bound = 1.0

    def __init__(self, errors: AnyMap, tolerance: float, *, regional: bool = False) -> None:
        super().__init__(errors, regional=regional, tolerance=checked_tolerance(tolerance))

    @property
    def terms(self) -> LossTerms:
        """The terms of this loss, as records keep them."""
        return LossTerms(
            distance=self.errors.name, over=self.over, tolerance=self.tolerance, region=self.regional
        )


def within(region: Images | None, errors: Images) -> Images:
    """Return the region with the shape of the errors, (N, C, *space); ones where there is none."""
    return torch.ones_like(errors) if region is None else region.float().expand_as(errors)
