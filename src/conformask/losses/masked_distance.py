"""Losses of whole masked images: the paper's distance between them, and a user's own callable."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conformask.arithmetic import full_precision
from conformask.arrays import Distance, Images, PerImage
from conformask.errors import InvalidArgumentError
from conformask.losses.base import Loss, LossOfImages
from conformask.losses.distances import distance as distance_by_name
from conformask.losses.distances import one_per_image
from conformask.losses.maps import map_instead
from conformask.records.fingerprints import name_of
from conformask.records.loss import LossTerms

Function = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""A callable (mask, y, y_hat, region) -> (N,)."""


@dataclass(frozen=True)
class CustomLoss(Loss):
    """Wraps a callable (mask, y, y_hat, region) -> (N,) that is 0 for the closed mask.

    The mask has one channel or those of y_hat; the region is (N, 1, *space), all ones where images have none.
    The loss is treated as not monotone unless declared monotone (never larger under a smaller mask).

    Examples:
        >>> import conformask as cm
        >>> def worst(mask, y, y_hat, region):
        ...     return (region * mask * (y - y_hat).abs()).amax(dim=(1, 2, 3))
        >>> cm.CustomLoss(worst, monotone=True, upper_bound=1.0).name
        'worst'
    """

    function: Function
    monotone: bool = False
    upper_bound: float | None = None
    regional: bool = False

    def in_regions(self, regions: bool) -> "CustomLoss":
        """Return the loss over the region of each image, or over whole images."""
        return replace(self, regional=regions)

    @property
    def name(self) -> str:
        """The callable's own name."""
        return name_of(self.function)

    @property
    def terms(self) -> LossTerms:
        """The terms of this loss, as records keep them."""
        return LossTerms(distance=self.name, region=self.regional)

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> "CustomLossOfImages":
        """Return the loss on these images, for masks with this many channels."""
        return CustomLossOfImages(self, y, y_hat, torch.ones_like(y[:, :1]) if region is None else region)


@dataclass(frozen=True)
class CustomLossOfImages(LossOfImages):
    """A user's loss on given images."""

    loss: CustomLoss
    y: Images
    y_hat: Images
    region: Images

    @property
    def images(self) -> Images:
        """The outputs."""
        return self.y_hat

    def of(self, mask: Images) -> PerImage:
        """Check and return the callable's value."""
        with full_precision(mask):
            value = self.loss.function(mask, self.y, self.y_hat, self.region)
        return one_per_image(value, len(mask), f"loss {self.loss.name!r}")

    def take(self, places: Tensor) -> "CustomLossOfImages":
        """Return the loss on the images at these places."""
        images = {name: getattr(self, name)[places] for name in ("y", "y_hat", "region")}
        return replace(self, **images)


@dataclass(frozen=True, init=False)
class MaskedDistance(Loss):
    """The loss d(m*y, m*y_hat), for a distance that is not a sum over pixels.

    Args:
        distance: a name ("ssim", "lpips", ...), an object, or a callable (a, b) -> (N,).

    Examples:
        >>> import conformask as cm
        >>> cm.MaskedDistance("ssim").terms.name
        'ssim'
    """

    distance: Distance

    def __init__(self, distance: str | Distance | Callable[[Tensor, Tensor], Tensor]) -> None:
        object.__setattr__(self, "distance", distance_by_name(distance))

    family = None

    @property
    def part(self) -> Distance:
        """The distance."""
        return self.distance

    def in_regions(self, regions: bool) -> "MaskedDistance":
        """Return the loss itself, over whole images.

        Raises:
            InvalidArgumentError: regions are asked for.
        """
        if regions:
            raise InvalidArgumentError(
                f"distance {self.distance.name!r} compares whole images and cannot use a region: "
                f"{map_instead(self.distance.name)}, or leave out region/"
            )
        return self

    @property
    def terms(self) -> LossTerms:
        """The terms of this loss, as records keep them."""
        return LossTerms(distance=self.distance.name)

    @property
    def monotone(self) -> bool:
        """True if the distance is monotone."""
        return self.distance.monotone

    @property
    def upper_bound(self) -> float | None:
        """The largest value of the distance, if it has one."""
        return self.distance.upper_bound

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> "MaskedDistanceOfImages":
        """Return the loss on these images; regions are ignored."""
        return MaskedDistanceOfImages(self.distance, y, y_hat)


@dataclass(frozen=True)
class MaskedDistanceOfImages(LossOfImages):
    """The loss d(m*y, m*y_hat) on given images."""

    distance: Distance
    y: Images
    y_hat: Images

    @property
    def images(self) -> Images:
        """The outputs."""
        return self.y_hat

    def of(self, mask: Images) -> PerImage:
        """Compute the loss of each image under its mask."""
        return self.distance(mask * self.y, mask * self.y_hat)

    def take(self, places: Tensor) -> "MaskedDistanceOfImages":
        """Return the loss on the images at these places."""
        return replace(self, y=self.y[places], y_hat=self.y_hat[places])
