"""A user's own distance: any callable (a, b) -> (N,)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from conformask.arithmetic import full_precision
from conformask.errors import InvalidArgumentError
from conformask.fingerprints import name_of
from conformask.types import Images, PerImage


@dataclass(frozen=True)
class CustomDistance:
    """Wraps a callable on two (N, C, H, W) tensors; treated as not monotone unless declared monotone."""

    function: Callable[[Tensor, Tensor], Tensor]
    monotone: bool = False
    upper_bound: float | None = None
    exponent = None

    @property
    def name(self) -> str:
        """The callable's own name."""
        return name_of(self.function)

    def __call__(self, a: Images, b: Images) -> PerImage:
        """Return the callable's value.

        Raises:
            InvalidArgumentError: the value is not one finite number for each image.
        """
        with full_precision(a):
            value = self.function(a, b)
        return one_per_image(value, len(a), f"distance {self.name!r}")


def one_per_image(value: object, n: int, what: str) -> PerImage:
    """Check and return the value of a user's callable for n images; `what` names the callable.

    Raises:
        InvalidArgumentError: it is not one finite number for each image.
    """
    if not isinstance(value, Tensor) or value.shape != (n,):
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InvalidArgumentError(
            f"{what} returned {got} for {n} images; expected a tensor of shape ({n},): do not reduce over "
            "the batch"
        )
    if not bool(torch.isfinite(value).all()):
        raise InvalidArgumentError(f"{what} returned NaN or infinity")
    return value
