"""Error maps: one value per pixel, computed once on the unmasked images."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from conformask.arithmetic import full_precision
from conformask.distances.lpips import Lpips
from conformask.distances.ssim import Ssim
from conformask.errors import InvalidArgumentError
from conformask.fingerprints import name_of
from conformask.types import ErrorMap, Images


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
    """An error map from a callable (y, y_hat) -> errors >= 0 of shape (N, 1 or C, *space)."""

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


def errors_for(errors: ErrorMap, y: Images, y_hat: Images, channels: int) -> Images:
    """Return the error map with the channels of a mask: averaged for one, repeated for many; float32."""
    pixelwise = errors.error_map(y, y_hat).float()
    if channels == 1:
        return pixelwise.mean(dim=1, keepdim=True)
    return pixelwise.expand(-1, channels, *pixelwise.shape[2:])


def wrong_pixels(errors: ErrorMap, y: Images, y_hat: Images, channels: int, tolerance: float) -> Images:
    """Return 1 where the error is above the tolerance, with the channels of a mask; float32."""
    return (errors_for(errors, y, y_hat, channels) > tolerance).float()
