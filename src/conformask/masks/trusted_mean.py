"""The largest mask whose mean score over the shown pixels is within the budget."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.masks.curves import boundary_curve, of_each_image
from conformask.masks.kernels import NOISE, images, pairs, rounded_down, selection
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
class TrustedMean(Family):
    """The mask argmax sum(m) with sum(m * score) <= lam * mean(score)^kappa * sum(m) and 0 <= m <= 1.

    It shows the pixels with the smallest scores as long as their mean is within the budget: the optimum for
    the mean error of what is shown. The level is the boundary score and the fraction that pixels at it share.
    A budget of at most the smallest score shows nothing, which keeps masks left-continuous in lam. Scores are
    sorted.

    Raises:
        InvalidArgumentError: kappa is not in [-1, 1].
    """

    kappa: float = KAPPA
    name = "trusted_mean"

    def __post_init__(self) -> None:
        check_kappa(self.kappa)

    def level(self, score: Images, lam: Float[Tensor, "n *g"]) -> Float[Tensor, "n *g 2"]:
        """Return the level that spends the budget, (N, 2) or (N, G, 2); rounded down.

        Raises:
            InvalidArgumentError: a score is negative, NaN or infinite, or a lambda negative or NaN.
        """
        budgets = spent(score, lam, self.kappa)
        levels = [_boundary(s, budget) for s, budget in zip(images(score, "score"), budgets, strict=True)]
        stacked = np.stack(levels) if levels else np.empty((0, budgets.shape[1], 2))
        return torch.from_numpy(rounded_down(stacked)).reshape(*lam.shape, 2).to(score.device)

    def streaming_level(self, lam: float, pixels: int) -> StreamingLevel:
        """Return the passes to the level of one image, by sums over its parts."""
        return _Search(lam, self.kappa, pixels)

    def apply(self, score: Images, level: Float[Tensor, "n 2"]) -> Images:
        """Return the mask, with the shape of the score, float32 in [0, 1]."""
        return up_to(score, level)

    def level_in_graph(self, score: Images, lam: PerImage) -> Float[Tensor, "n 2"]:
        """Return the level in operations that an ONNX graph has."""
        ascending = score.flatten(1).sort(dim=1).values
        values = ascending.double()
        budget = (lam * shares_in_graph(score, self.kappa))[:, None]
        counts = torch.ones_like(values).cumsum(1)
        fits = within_noise(values.cumsum(1) / counts, budget) & (budget > values[:, :1])
        edge = torch.where(fits, torch.inf, ascending).amin(1, keepdim=True)
        below = values < edge
        slack = torch.where(below, budget - values, 0.0).sum(1, keepdim=True)
        beyond = torch.where(ascending == edge, values - budget, 0.0).sum(1, keepdim=True)
        fraction = torch.where((beyond > 0) & below.any(1, keepdim=True), slack / beyond, 0.0).clamp(0, 1)
        return torch.stack((edge[:, 0], rounded_down_in_graph(fraction[:, 0])), dim=1)

    def critical_lambda(
        self, score: Images, error: Images, exponent: float, threshold: float
    ) -> Float[Tensor, "n"]:
        """Return sup{lam : mean(mask^p * error) <= threshold}, (N,) float64, exact.

        error = |y - y_hat|^p.

        Raises:
            InvalidArgumentError: shapes differ, or a score, error or the threshold is negative or NaN.
        """
        budgets = [_critical(s, e, exponent, threshold) for s, e in pairs(score, error, threshold)]
        return torch.from_numpy(np.array(budgets, dtype=np.float64) / shares(score, self.kappa))

    def curve(
        self, score: Images, error: Images, exponent: float, lam: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """Return mean(mask^p * error) and mask size at ascending lambdas, each (N, G) float64."""
        levels = self.level(score, torch.from_numpy(lam).expand(len(score), -1)).cpu().numpy()
        return of_each_image(
            score, error, levels, lambda s, e, level: boundary_curve(s, e, level[:, 0], level[:, 1], exponent)
        )

    def settings(self) -> dict[str, Json]:
        """Return name and kappa."""
        return {"name": self.name, "kappa": self.kappa}


@dataclass(frozen=True)
class _Search(Search):
    """The search for the boundary of `TrustedMean`: sums of scores and counts."""

    def sums_of(self, part: Array) -> Array:
        pixels = flat(part)
        return np.stack([self.by_digit(pixels, weight) for weight in (pixels, np.ones_like(pixels))])

    def passed(self, sums: Array, through: Array) -> Array:
        """Return where the mean is above the budget; the first score if none is below: nothing is shown."""
        passed: Array = through[0] > self.budget * (1 + NOISE) * through[1]
        first = np.flatnonzero(through[1])[0]
        least = sums[0, first] * (1 + NOISE) >= self.budget * sums[1, first]
        passed[first] |= least and not np.any(self.below)
        return passed

    def level_at(self, score: float, at: Array) -> tuple[float, ...]:
        total, count = np.broadcast_to(self.below, 2)
        slack, cost = self.budget * count - total, at[1] * (score - self.budget)
        return score, min(max(slack / cost, 0.0), 1.0) if count and cost > 0 else 0.0


def _boundary(s: Array, budgets: Array) -> Array:
    """Return the boundary score and its fraction for each budget, (G, 2)."""
    ascending = np.sort(s)
    sums = np.concatenate([[0.0], ascending.cumsum(dtype=np.float64)])
    # running means of ascending scores rise; rounding must not break the order that a search needs
    means = np.maximum.accumulate(sums[1:] / np.arange(1, s.size + 1))
    fit = np.searchsorted(means, budgets * (1 + NOISE), side="right")
    fit[budgets <= float(ascending[0]) * (1 + NOISE)] = 0
    levels = np.zeros((budgets.size, 2))
    levels[fit == s.size, 0] = np.inf
    partly = fit < s.size
    edges, budgets = ascending[fit[partly]], budgets[partly]
    first, beyond = (np.searchsorted(ascending, edges, side) for side in ("left", "right"))
    slack, cost = budgets * first - sums[first], (beyond - first) * (edges - budgets)
    fractions = np.divide(slack, cost, out=np.zeros_like(slack), where=(first > 0) & (cost > 0))
    levels[partly] = np.column_stack([edges, fractions.clip(0, 1)])
    return levels


def _critical(s: Array, e: Array, exponent: float, threshold: float) -> float:
    boundary, fraction, below, at = selection(s, e, threshold * s.size)
    if np.isinf(boundary):
        return float(boundary)
    shared = fraction ** (1 / exponent)  # a mask value f spends f^p of the error
    shown = float((s < boundary).sum()) + shared * float((s == boundary).sum())
    return float((below + shared * at) / shown) if shown else float(boundary)
