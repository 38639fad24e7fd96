"""A user's own loss: any callable on mask and images."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conformask.arithmetic import full_precision
from conformask.distances.custom import one_per_image
from conformask.fingerprints import name_of
from conformask.records.loss import LossTerms
from conformask.types import Images, Loss, PerImage

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
class CustomLossOfImages:
    """A user's loss on given images."""

    loss: CustomLoss
    y: Images
    y_hat: Images
    region: Images

    def of(self, mask: Images) -> PerImage:
        """Check and return the callable's value.

        Raises:
            InvalidArgumentError: the value is not one finite number for each image.
        """
        with full_precision(mask):
            value = self.loss.function(mask, self.y, self.y_hat, self.region)
        return one_per_image(value, len(mask), f"loss {self.loss.name!r}")

    def take(self, places: Tensor) -> "CustomLossOfImages":
        """Return the loss on the images at these places."""
        images = {name: getattr(self, name)[places] for name in ("y", "y_hat", "region")}
        return replace(self, **images)
