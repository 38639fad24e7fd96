"""A user's own loss: any callable on mask and images."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from conformask.arithmetic import full_precision
from conformask.errors import InvalidArgumentError
from conformask.records.loss import LossTerms
from conformask.types import Images, PerImage

Function = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(mask, y, y_hat, region) -> (N,)."""


@dataclass(frozen=True)
class OwnLoss:
    """Wraps a callable (mask, y, y_hat, region) -> (N,) that is 0 for the closed mask.

    The mask has one channel or those of y_hat; the region is (N, 1, *space), all ones where images have none.
    Unless declared monotone (never larger under a smaller mask) it is treated as not.
    """

    function: Function
    monotone: bool = False
    upper_bound: float | None = None
    regional: bool = False
    relative = False
    own_bounds = False
    family = None
    errors = None
    exponent = None

    @property
    def name(self) -> str:
        """The callable's own name."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    @property
    def terms(self) -> LossTerms:
        """Its words."""
        return LossTerms(distance=self.name, region=self.regional)

    def on(self, y: Images, y_hat: Images, region: Images | None, channels: int) -> "OwnLossOfImages":
        """The loss of these images, for masks of so many channels."""
        return OwnLossOfImages(self, y, y_hat, torch.ones_like(y[:, :1]) if region is None else region)


@dataclass(frozen=True)
class OwnLossOfImages:
    """A user's loss of given images."""

    loss: OwnLoss
    y: Images
    y_hat: Images
    region: Images

    def of(self, mask: Images) -> PerImage:
        """The callable's value.

        Raises:
            InvalidArgumentError: it is not one finite number for each image.
        """
        with full_precision(mask):
            value = self.loss.function(mask, self.y, self.y_hat, self.region)
        if not isinstance(value, Tensor) or value.shape != (len(mask),):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InvalidArgumentError(
                f"loss {self.loss.name!r} returned {got} for {len(mask)} images; expected a tensor of shape "
                f"({len(mask)},): do not reduce over the batch"
            )
        if not bool(torch.isfinite(value).all()):
            raise InvalidArgumentError(f"loss {self.loss.name!r} returned NaN or infinity")
        return value

    def take(self, places: Tensor) -> "OwnLossOfImages":
        """Those of the images at these places."""
        images = {name: getattr(self, name)[places] for name in ("y", "y_hat", "region")}
        return replace(self, **images)
