"""Bisection of log lambda, for losses and families whose critical lambda has no formula."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SMALLEST, LARGEST = 1e-36, 1e36
"""Limits of lambdas: float32 holds them with their margin, and any scores worth distinguishing."""
HALVINGS = 28
"""Number of bisections of [log SMALLEST, log LARGEST], to one part in 10^6 of lambda."""


def largest_lambda(
    passes: Callable[[Float[Tensor, "n"]], Bool[Tensor, "n"]], n: int, device: torch.device
) -> Float[Tensor, "n"]:
    """Return the largest lambda of each image that passes, from below, to one part in 10^6; float64.

    passes(lambdas) says of each image whether it passes; it is called HALVINGS + 2 times. The result is inf
    where an image passes unmasked, 0 where it fails at the smallest lambda.
    """
    low, high = (
        torch.full((n,), math.log(end), dtype=torch.float64, device=device) for end in (SMALLEST, LARGEST)
    )
    infeasible, unmasked = ~passes(low.exp()), passes(torch.full_like(low, math.inf))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        passed = passes(middle.exp())
        low, high = torch.where(passed, middle, low), torch.where(passed, high, middle)
    return low.exp().masked_fill(infeasible, 0.0).masked_fill(unmasked, math.inf)
