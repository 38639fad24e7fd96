"""Error maps, one value per pixel, computed once on the unmasked images; and losses made of one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeGuard

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arithmetic import full_precision, image_means
from conformask.arrays import Array, ErrorMap, Images, PerImage
from conformask.errors import InvalidArgumentError, chosen
from conformask.losses.base import Loss, LossOfImages
from conformask.losses.distances import CHOICES, PERCEPTUAL, Lp, distance, installed
from conformask.losses.distances import taken as taken_by_a_distance
from conformask.losses.perceptual import Lpips, Ssim
from conformask.masks.critical import cheapest_mask, exact_oracle
from conformask.masks.families import Binary
from conformask.masks.family import Family
from conformask.masks.kernels import pairs
from conformask.records.fingerprints import name_of
from conformask.records.loss import LossTerms
from conformask.records.names import Over
from conformask.records.selection import tolerance_of

AnyMap = str | ErrorMap
"""A choice of an error map: a name, or an object."""


@dataclass(frozen=True)
class MapOf:
    """A distance's own error map, whose mean over the pixels approximates the distance."""

    distance: Ssim | Lpips
    exponent = 1.0

    @property
    def name(self) -> str:
        """The name, such as ssim_map or lpips_map."""
        return f"{self.distance.name}_map"

    @property
    def upper_bound(self) -> float | None:
        """The largest value of the distance, if it has one."""
        return self.distance.upper_bound

    def error_map(self, y: Images, y_hat: Images) -> Images:
        """Return the map, >= 0; values below 0 by rounding are clipped."""
        return self.distance.error_map(y, y_hat).clamp(min=0)


@dataclass(frozen=True)
class CustomErrorMap:
    """An error map from a callable (y, y_hat) -> errors >= 0 of shape (N, 1 or C, *space).

    The callable receives float32 tensors (N, C, *space) in [0, 1], where 0 and 1 are the ends of the range of
    the images, not in their units. With `Reading(nan="outside")`, 0 stands where an image was NaN. Errors
    outside the region do not count, but have to be finite there too: a relative error divides by, say,
    `y.clamp(min=0.01)`.

    Examples:
        >>> import conformask as cm
        >>> def squared(y, y_hat):
        ...     return (y - y_hat).square()
        >>> cm.MaskedWindow(cm.CustomErrorMap(squared, upper_bound=1.0), 9).terms.name
        'window(squared, 9 px)'
    """

    function: Callable[[Tensor, Tensor], Tensor]
    upper_bound: float | None = None
    """The largest error on images in [0, 1], where there is one."""
    exponent = 1.0

    @property
    def name(self) -> str:
        """The callable's own name."""
        return name_of(self.function)

    def error_map(self, y: Images, y_hat: Images) -> Images:
        """Check and return the callable's map.

        Raises:
            InvalidArgumentError: another shape than that of the images, or a value that is negative, NaN or
                infinite.
        """
        with full_precision(y):
            errors = self.function(y, y_hat)
        shapes = [(*y.shape[:1], channels, *y.shape[2:]) for channels in (1, y.shape[1])]
        if not isinstance(errors, Tensor) or tuple(errors.shape) not in shapes:
            got = tuple(errors.shape) if isinstance(errors, Tensor) else type(errors).__name__
            raise InvalidArgumentError(f"error map {self.name!r} returned {got}; expected {shapes[-1]}")
        if not bool((torch.isfinite(errors) & (errors >= 0)).all()):
            raise InvalidArgumentError(
                f"error map {self.name!r} has values that are negative, NaN or infinite"
            )
        return errors.float()


MAPS: Mapping[str, Callable[..., ErrorMap]] = {
    "ssim_map": lambda: MapOf(Ssim()),
    "lpips_map": lambda **weights: MapOf(Lpips("squeeze", **weights)),
    "lpips_alex_map": lambda **weights: MapOf(Lpips("alex", **weights)),
    "lpips_vgg_map": lambda **weights: MapOf(Lpips("vgg", **weights)),
}
"""Error maps of distances by name, in addition to lp."""


def error_map(choice: object, weights_path: str | Path | None = None) -> ErrorMap:
    """Return the error map with this name, or the given object."""
    asked, choice = choice, installed(choice)
    if is_map(choice):
        if isinstance(choice, CustomErrorMap) and is_built_in(choice.name):
            raise InvalidArgumentError(
                f"your error map has the name of a built-in one, {choice.name!r}, but a run folder keeps "
                "only names: rename the function"
            )
        return choice
    if isinstance(choice, str) and choice in MAPS:
        takes_weights = choice.removesuffix("_map") in PERCEPTUAL
        return MAPS[choice](**({"weights_path": weights_path} if takes_weights else {}))
    if isinstance(choice, str):
        if not is_built_in(choice):
            chosen(CHOICES, choice, "distance")
        named = distance(choice, weights_path)
        if isinstance(named, Lp):
            return named
    name = asked if isinstance(asked, str) else getattr(choice, "name", None) or repr(choice)
    raise InvalidArgumentError(
        f"{name!r} is not an error map but compares whole images: {map_instead(str(name))}"
    )


def is_map(choice: object) -> TypeGuard[ErrorMap]:
    """Return whether this is an error map; an object of a distance with a map but no exponent is not."""
    return isinstance(choice, ErrorMap) and choice.exponent is not None


def is_built_in(name: str) -> bool:
    """Return whether a built-in distance or error map has this name."""
    return name in MAPS or taken_by_a_distance(name)


def map_instead(name: str) -> str:
    """Return advice on the error map to use instead of a distance between whole images."""
    return f"use {name}_map" if f"{name}_map" in MAPS else "use l1, ssim_map, lpips_map or a CustomErrorMap"


def errors_for(errors: ErrorMap, y: Images, y_hat: Images, channels: int) -> Images:
    """Return the error map with the channels of a mask: averaged for one, repeated for many; float32."""
    return with_channels(errors.error_map(y, y_hat).float(), channels)


def with_channels(pixelwise: Images, channels: int) -> Images:
    """Return values of pixels with the channels of a mask: averaged for one, repeated for many."""
    if channels == 1:
        return pixelwise.mean(dim=1, keepdim=True)
    return pixelwise.expand(-1, channels, *pixelwise.shape[2:])


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
    """Return the error above which a pixel is wrong, given as a number, or such as "5%" of the range."""
    tolerance = tolerance_of(tolerance, LossTerms(distance=error_map(errors).name), None)
    if not tolerance >= 0:
        raise InvalidArgumentError(f"tolerance = {tolerance:g}: must be an error of at least 0")
    return float(tolerance)


def within(region: Images | None, errors: Images) -> Images:
    """Return the region with the shape of the errors, (N, C, *space); ones where there is none."""
    return torch.ones_like(errors) if region is None else region.float().expand_as(errors)


@dataclass(frozen=True)
class Sums(LossOfImages):
    """The loss mean(mask^exponent * error) on given images, divided by mean(mask * shown) if that is given.

    error and shown are float32 with the channels of the masks. Where nothing is shown the loss is 0.
    """

    error: Images
    exponent: float = 1.0
    shown: Images | None = None

    @property
    def images(self) -> Images:
        """The errors."""
        return self.error

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

    def curve(
        self, score: Images, family: Family, grid: Float[Array, "g"]
    ) -> tuple[Float[Array, "n g"], Float[Array, "n g"]]:
        """Compute (loss, mask size) by the kernels of the family, or from the sums that binary masks show."""
        if self.shown is None:
            return family.curve(score, self.error, self.exponent, grid)
        if isinstance(family, Binary):
            sums, maps = family.shown_sums(score, grid), (self.error, self.shown, torch.ones_like(score))
            total, shown, opened = (
                sums(values for _, values in pairs(score, each, 0.0)) / score[0].numel() for each in maps
            )
            size = 1 - opened
        else:
            total, size = family.curve(score, self.error, self.exponent, grid)
            shown = family.curve(score, self.shown, 1.0, grid)[0]
        return np.divide(total, shown, out=np.zeros_like(total), where=shown > 0), size

    def critical_lambda(self, score: Images, family: Family, threshold: float) -> Float[Tensor, "n"]:
        """Return the exact critical lambda, by the kernels of the family."""
        return family.critical_lambda(score, self.error, self.exponent, threshold)

    def oracle(self, threshold: float) -> Images | None:
        """Return the smallest masks: the smallest errors are shown, as long as their mean is within."""
        if self.shown is None:
            return exact_oracle(self.error, threshold, self.exponent)
        costs = self.error.double() - threshold * self.shown.double()
        return torch.stack([cheapest_mask(cost) for cost in costs])
