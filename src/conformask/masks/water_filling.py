"""The largest mask within an error budget: Theorems 1 and 2 of the paper with the constraint m <= 1 kept."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from conformask.arithmetic import per_image
from conformask.errors import InvalidArgumentError
from conformask.masks.curves import boundary_curve, of_each_image, saturating_curve
from conformask.masks.kernels import (
    DIGITS,
    LARGEST,
    NEGLIGIBLE,
    NOISE,
    beyond_tops,
    boundaries,
    filled,
    full_below,
    images,
    pairs,
    rounded_down,
    saturating_within,
    selection,
)
from conformask.masks.levels import (
    KAPPA,
    check_kappa,
    rounded_down_in_graph,
    shares,
    shares_in_graph,
    spent,
    up_to,
    within_noise,
)
from conformask.masks.mask_family import Family
from conformask.masks.streaming_level import Search, StreamingLevel, flat
from conformask.storage.as_arrays import Array
from conformask.storage.as_json import Json
from conformask.types import Images, PerImage


@dataclass(frozen=True)
class WaterFilling(Family):
    """The mask argmax sum(m) with mean(m^p * score) <= lam * mean(score)^kappa and 0 <= m <= 1.

    p is the exponent. p = 1: the pixels with the smallest scores are shown until the budget is spent; the
    level is the boundary score and the fraction that pixels at it share. p > 1: m = min(1, (sigma /
    score)^(1/(p-1))); the level is sigma, below which pixels are full. lam = 0 masks everything; with lam > 0
    a pixel of score 0 is never masked.

    Raises:
        InvalidArgumentError: the exponent is neither 1 nor in [1.1, inf), or kappa not in [-1, 1].
    """

    exponent: float = 1.0
    kappa: float = KAPPA
    name = "water_filling"

    def __post_init__(self) -> None:
        if not (self.exponent == 1 or 1.1 <= self.exponent < math.inf):
            raise InvalidArgumentError(
                f"exponent: {self.exponent}; water_filling takes 1, or 1.1 and above (in between, powers of "
                "the score leave the range of floats)"
            )
        check_kappa(self.kappa)

    def level(self, score: Images, lam: Float[Tensor, "n *g"]) -> Float[Tensor, "n *g l"]:
        """Return the level that spends the budget, (N, L) or (N, G, L), L = 2 if p = 1, else 1; rounded down.

        Raises:
            InvalidArgumentError: a score is negative, NaN or infinite, or a lambda negative or NaN.
        """
        budgets = spent(score, lam, self.kappa)
        # a sort on the device costs less than the way to the kernels; on a processor the kernels are faster
        if score.is_cuda and lam.ndim == 1:
            return self.level_by_sorting(score, torch.from_numpy(budgets).to(score.device))
        fill = self._boundary if self.exponent == 1 else self._sigma
        levels = [fill(s, budget) for s, budget in zip(images(score, "score"), budgets, strict=True)]
        stacked = np.stack(levels) if levels else np.empty((0, budgets.shape[1], 2 - (self.exponent > 1)))
        opened = np.where(budgets[..., None] > 0, stacked, 0)
        return torch.from_numpy(rounded_down(opened)).reshape(*lam.shape, opened.shape[-1]).to(score.device)

    def streaming_level(self, lam: float, pixels: int) -> StreamingLevel:
        """Return the passes to the level of one image, by sums over its parts."""
        if self.exponent == 1:
            return _BoundarySearch(lam, self.kappa, pixels)
        return _SigmaSearch(lam, self.kappa, pixels, power=self._power(self.exponent))

    def apply(self, score: Images, level: Float[Tensor, "n l"]) -> Images:
        """Return the mask, with the shape of the score, float32 in [0, 1]."""
        if self.exponent == 1:
            return up_to(score, level)
        s = score.float()
        sigma = per_image(level.to(s.device, torch.float32)[:, 0], s)
        partial = (sigma / s) ** (1 / (self.exponent - 1))
        return torch.where(s <= sigma, 1.0, partial) * (sigma > 0)  # sigma = 0 closes a score of 0, too

    def level_in_graph(self, score: Images, lam: PerImage) -> Float[Tensor, "n l"]:
        """Return the level in operations that an ONNX graph has."""
        return self.level_by_sorting(score, (lam * shares_in_graph(score, self.kappa))[:, None])

    def level_by_sorting(self, score: Images, budgets: Float[Tensor, "n 1"]) -> Float[Tensor, "n l"]:
        """Return the level that spends the budgets, float64, in torch operations on the device."""
        ascending = score.flatten(1).sort(dim=1).values
        fill = boundary_in_graph if self.exponent == 1 else self._sigma_in_graph
        return torch.where(budgets > 0, fill(ascending, budgets * ascending.shape[1]), 0.0)

    def critical_lambda(
        self, score: Images, error: Images, exponent: float, threshold: float
    ) -> Float[Tensor, "n"]:
        """Return sup{lam : mean(mask^p * error) <= threshold}, (N,) float64, exact.

        error = |y - y_hat|^p, where p is the distance's exponent, which need not be the family's.

        Raises:
            InvalidArgumentError: shapes differ, or a score, error or the threshold is negative or NaN.
        """
        critical = self._critical_boundary if self.exponent == 1 else self._critical_sigma
        budgets = [critical(s, e, exponent, threshold) for s, e in pairs(score, error, threshold)]
        return torch.from_numpy(np.array(budgets, dtype=np.float64) / shares(score, self.kappa))

    def curve(
        self, score: Images, error: Images, exponent: float, lam: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """Return mean(mask^p * error) and mask size at ascending lambdas, each (N, G) float64."""
        levels = self.level(score, torch.from_numpy(lam).expand(len(score), -1)).cpu().numpy()
        return of_each_image(score, error, levels, lambda s, e, level: self._curve(s, e, level.T, exponent))

    def _curve(self, s: Array, e: Array, level: Array, exponent: float) -> tuple[Array, Array]:
        if self.exponent == 1:
            return boundary_curve(s, e, level[0], level[1], exponent)
        return saturating_curve(s, e, level[0], 1 / (self.exponent - 1), exponent)

    def settings(self) -> dict[str, Json]:
        """Return name, exponent and kappa."""
        return {"name": self.name, "exponent": self.exponent, "kappa": self.kappa}

    def _boundary(self, s: Array, budgets: Array) -> Array:
        return boundaries(s, s, budgets * s.size)[:, :2]

    def _critical_boundary(self, s: Array, e: Array, exponent: float, threshold: float) -> float:
        boundary, fraction, below, at = selection(s, e, threshold * s.size)
        shared = fraction ** (1 / exponent)  # a mask value f spends f^p of the error
        return math.inf if math.isinf(boundary) else float((below + shared * at) / s.size)

    def _sigma(self, s: Array, budgets: Array) -> Array:
        order = np.argsort(budgets)  # the kernel takes ascending goals, and starts each at the last
        levels = np.empty((len(budgets), 1))
        levels[order, 0] = full_below(s, s, 0.0, self._power(self.exponent), budgets[order] * s.size)
        return levels

    def _sigma_in_graph(
        self, ascending: Float[Tensor, "n p"], budget: Float[Tensor, "n 1"]
    ) -> Float[Tensor, "n 1"]:
        """Find sigma from u = sigma^q, q = p / (p - 1): a mask spends the least of the lines S_k + u T_k.

        S_k is the sum of the k smallest scores, which are open, and T_k the sum of the slopes s / s^q of the
        others. So u is the largest at which one of the lines meets the budget.
        """
        power, values = self._power(self.exponent), ascending.double()
        scale = torch.where(values[:, -1:] > 0, values[:, -1:], 1.0)
        limits = (values / scale) ** power
        counts = limits.log() >= math.log(NEGLIGIBLE)
        slopes = torch.where(counts, values / limits, 0.0)
        total = values.cumsum(1)
        opened = F.pad(total[:, :-1], (1, 0))
        rest = slopes.flip(1).cumsum(1).flip(1)
        u = torch.where(counts, (budget - opened) / rest, 0.0).amax(1, keepdim=True)
        sigma = torch.where(within_noise(total[:, -1:], budget), torch.inf, scale * u ** (1 / power))
        return rounded_down_in_graph(sigma[:, 0])[:, None]

    def _critical_sigma(self, s: Array, e: Array, exponent: float, threshold: float) -> float:
        (sigma,) = full_below(s, e, 0.0, self._power(exponent), np.array([threshold * s.size]))
        if sigma in (0, math.inf):
            return float(sigma)
        return filled(s, self._power(self.exponent), sigma) / s.size

    def _power(self, exponent: float) -> float:
        """Return the power in mask^exponent = min(1, (sigma / score)^power)."""
        return float(exponent / (self.exponent - 1))


@dataclass(frozen=True)
class _BoundarySearch(Search):
    """The search for the boundary at p = 1: pixels below it are full, the others closed."""

    def sums_of(self, part: Array) -> Array:
        pixels = flat(part)
        return self.by_digit(pixels, pixels)[None]

    def passed(self, sums: Array, through: Array) -> Array:
        passed: Array = through[0] > self.budget * self.pixels * (1 + NOISE)
        return passed

    def level_at(self, score: float, at: Array) -> tuple[float, ...]:
        remaining = self.budget * self.pixels - np.broadcast_to(self.below, 1)[0]
        return score, min(1.0, max(0.0, remaining / at[0]))


@dataclass(frozen=True)
class _SigmaSearch(Search):
    """The search for sigma: sums of scores, and spending where sigma is the largest score of a digit.

    Powers of scores below NEGLIGIBLE count here, unlike in the kernel.
    """

    power: float = 2.0
    beyond: float = 0.0
    """Spending of pixels beyond the known digits, if sigma is the largest score with these digits."""
    numbers: ClassVar[int] = 1

    def sums_of(self, part: Array) -> Array:
        pixels = flat(part)
        shift, bits = DIGITS[self.done]
        partly = saturating_within(
            pixels.view(np.uint32), pixels, shift, bits, self.key, self._tops(), self.power
        )
        return np.stack([self.by_digit(pixels, pixels), partly])

    def passed(self, sums: Array, through: Array) -> Array:
        """Return where spending exceeds the budget; after the first pass, the last digit always does."""
        spent = through[0] + self._beyond(sums)
        passed: Array = spent > self.budget * self.pixels * (1 + NOISE)
        passed[-1] |= self.done > 0
        return passed

    def at_digit(self, digit: int, sums: Array, below: Array) -> "_SigmaSearch":
        return replace(super().at_digit(digit, sums, below), beyond=float(self._beyond(sums)[digit]))

    def level_at(self, score: float, at: Array) -> tuple[float, ...]:
        return (float(np.nextafter(np.float32(score), np.float32(0))),)

    def _beyond(self, sums: Array) -> Array:
        return beyond_tops(sums[1], self._tops(), self.power, self.beyond)

    def _tops(self) -> Array:
        """Return the largest score of each digit, float64; arbitrary for digits that no score has."""
        shift, bits = DIGITS[self.done]
        keys = ((self.key << bits) + np.arange(1, (1 << bits) + 1) << shift) - 1
        tops: Array = np.minimum(keys, LARGEST).astype(np.uint32).view(np.float32).astype(np.float64)
        return tops


def boundary_in_graph(ascending: Float[Tensor, "n p"], budget: Float[Tensor, "n 1"]) -> Float[Tensor, "n 2"]:
    """Return the score at which the budget is spent, and the fraction of it that fits."""
    spent = ascending.double().cumsum(1)
    all_fit = within_noise(spent[:, -1:], budget)
    edge = torch.where(spent > budget, ascending, torch.inf).amin(1, keepdim=True)
    edge = torch.where(all_fit, torch.inf, edge)
    below = torch.where(ascending < edge, ascending.double(), 0.0).sum(1, keepdim=True)
    at = torch.where(ascending == edge, ascending.double(), 0.0).sum(1, keepdim=True)
    fraction = torch.where(all_fit, 0.0, ((budget - below) / at).clamp(0, 1))
    return torch.stack((edge[:, 0], rounded_down_in_graph(fraction[:, 0])), dim=1)
