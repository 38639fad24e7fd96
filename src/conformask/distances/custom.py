"""A user's own distance: any callable (a, b) -> (N,)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from conformask.arithmetic import full_precision
from conformask.errors import InvalidArgumentError
from conformask.types import Images, PerImage


@dataclass(frozen=True)
class Custom:
    """Wraps a callable on two (N, C, H, W) tensors; unless declared monotone it is treated as not."""

    function: Callable[[Tensor, Tensor], Tensor]
    monotone: bool = False
    upper_bound: float | None = None
    exponent = None

    @property
    def name(self) -> str:
        """The callable's own name."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def __call__(self, a: Images, b: Images) -> PerImage:
        """The callable's value.

        Raises:
            InvalidArgumentError: it is not one finite number for each image.
        """
        with full_precision(a):
            value = self.function(a, b)
        if not isinstance(value, Tensor) or value.shape != (len(a),):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InvalidArgumentError(
                f"distance {self.name!r} returned {got} for {len(a)} images; expected a tensor of shape "
                f"({len(a)},): do not reduce over the batch"
            )
        if not bool(torch.isfinite(value).all()):
            raise InvalidArgumentError(f"distance {self.name!r} returned NaN or infinity")
        return value
