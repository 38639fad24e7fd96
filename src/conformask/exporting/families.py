"""The families in operations that an ONNX graph has: no compiled kernels, no loops, no branches on values.

What they compute is what `masks` says; sums are float64 and levels are rounded down to float32 as there. The
exporter writes constants in float32, so that 1e-200 would be 0 and 1 + 1e-12 would be 1: such bounds are
written with constants that float32 holds.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from conformask.errors import MismatchError
from conformask.masks.kernels import NEGLIGIBLE, NOISE
from conformask.types import Family, Images, PerImage

Opening = Callable[[Images, PerImage], Images]
"""(score float32, lam float64) -> mask."""
TO_NEXT = 2.0**24
"""A positive float32 less its part of that is the next smaller one."""
LARGEST = torch.finfo(torch.float32).max


def opening(family: Family) -> Opening:
    """The masks of a family; 0 where lambda is 0, negative or NaN.

    Raises:
        MismatchError: a family of the user's own, whose code an ONNX graph cannot hold.
    """
    settings = dict(family.settings())
    name = str(settings.pop("name"))
    if name not in IN_GRAPH:
        raise MismatchError(f"family {name!r} is your own: only masks of {list(IN_GRAPH)} can be exported")
    masks = partial(IN_GRAPH[name], **settings)

    def opened(score: Images, lam: PerImage) -> Images:
        return torch.where(spread(lam > 0), masks(score, lam), 0.0)

    return opened


def saturating(
    score: Images, lam: PerImage, epsilon: float, gamma: float = 1.0, kappa: float = 0.0
) -> Images:
    """min(1, (lam * mean(score)^kappa / (epsilon + score))^gamma)."""
    level = rounded_down(lam * share(score, kappa))
    return (spread(level) / (epsilon + score)).clamp(max=1) ** gamma


def water_filling(score: Images, lam: PerImage, exponent: float, kappa: float) -> Images:
    """The largest mask within the budget lam * mean(score)^kappa."""
    ascending = score.flatten(1).sort(dim=1).values
    budget = (lam * share(score, kappa))[:, None] * ascending.shape[1]
    if exponent == 1:
        return boundary(score, ascending, budget)
    return sigma(score, ascending, budget, exponent)


def boundary(score: Images, ascending: Float[Tensor, "n p"], budget: Float[Tensor, "n 1"]) -> Images:
    """1 below the score at which the budget is spent, at it the fraction that fits, 0 above."""
    spent = ascending.double().cumsum(1)
    whole = within_noise(spent[:, -1:], budget)
    edge = torch.where(spent > budget, ascending, torch.inf).amin(1, keepdim=True)
    edge = torch.where(whole, torch.inf, edge)
    below = torch.where(ascending < edge, ascending.double(), 0.0).sum(1, keepdim=True)
    at = torch.where(ascending == edge, ascending.double(), 0.0).sum(1, keepdim=True)
    fraction = torch.where(whole, 0.0, ((budget - below) / at).clamp(0, 1))
    level, share_of_edge = spread(edge[:, 0]), spread(rounded_down(fraction[:, 0]))
    return torch.where(score < level, 1.0, torch.where(score == level, share_of_edge, 0.0))


def sigma(
    score: Images, ascending: Float[Tensor, "n p"], budget: Float[Tensor, "n 1"], exponent: float
) -> Images:
    """min(1, (sigma / score)^(1/(p-1))), sigma such that the budget is spent.

    In u = sigma^q, q = p / (p - 1), what a mask spends is the least of the lines S_k + u T_k: the k smallest
    scores open, and of the others the slopes s / s^q. So u is the largest at which one of them meets the
    budget.
    """
    power = exponent / (exponent - 1)
    values = ascending.double()
    scale = torch.where(values[:, -1:] > 0, values[:, -1:], 1.0)
    limits = (values / scale) ** power
    counts = limits.log() >= math.log(NEGLIGIBLE)
    slopes = torch.where(counts, values / limits, 0.0)
    total = values.cumsum(1)
    opened = F.pad(total[:, :-1], (1, 0))
    rest = slopes.flip(1).cumsum(1).flip(1)
    u = torch.where(counts, (budget - opened) / rest, 0.0).amax(1, keepdim=True)
    level = torch.where(within_noise(total[:, -1:], budget), torch.inf, scale * u ** (1 / power))
    edge = spread(rounded_down(level[:, 0]))
    partial_mask = torch.where(score <= edge, 1.0, (edge / score) ** (1 / (exponent - 1)))
    return torch.where(edge > 0, partial_mask, 0.0)


def within_noise(total: Float[Tensor, "n 1"], budget: Float[Tensor, "n 1"]) -> Tensor:
    """total <= budget * (1 + NOISE)."""
    return total - budget <= budget / (1 / NOISE)


def share(score: Images, kappa: float) -> PerImage:
    """mean(score)^kappa, float64; 1 where there is no score."""
    mean = score.double().mean((1, 2, 3))
    return torch.where(mean > 0, mean, 1.0) ** kappa


def rounded_down(values: PerImage) -> PerImage:
    """As float32, not above the float64 value."""
    rounded = values.float()
    return torch.where(rounded.double() > values, rounded - rounded.clamp(max=LARGEST) / TO_NEXT, rounded)


def spread(values: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1, 1)."""
    return values[:, None, None, None]


IN_GRAPH: Mapping[str, Callable[..., Images]] = {
    "reciprocal": saturating,
    "power": saturating,
    "water_filling": water_filling,
}
