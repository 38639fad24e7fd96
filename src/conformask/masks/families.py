"""Nested families of masks: level, pixelwise apply, exact critical lambda."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from conformask.arrays import Array, Images, PerImage, per_image
from conformask.errors import InvalidArgumentError, chosen
from conformask.masks.family import Family, Search, StreamingLevel, Total, flat
from conformask.masks.kernels import (
    DIGITS,
    KAPPA,
    LARGEST_KEY,
    NEGLIGIBLE,
    NOISE,
    beyond_tops,
    boundary_curve,
    check_kappa,
    filled,
    fillings,
    full_below,
    images,
    of_each_image,
    pairs,
    places_of,
    radix_sorted,
    rounded_down,
    rounded_down_in_graph,
    saturating_curve,
    saturating_within,
    selection,
    shares,
    shares_in_graph,
    spent,
    summed,
    up_to,
    within_noise,
)
from conformask.records.record import Json


class Budgeted(Family):
    """A family whose masks spend the budget lam * mean(score)^kappa."""

    kappa: float

    def __post_init__(self) -> None:
        check_kappa(self.kappa)

    @property
    def degree(self) -> float:
        """The power of a factor on the score by which lambda has to grow to leave a mask as it is."""
        return 1.0 - self.kappa

    def critical_lambda(
        self, score: Images, error: Images, exponent: float, threshold: float
    ) -> Float[Tensor, "n"]:
        """Return sup{lam : mean(mask^p * error) <= threshold}, (N,) float64, exact.

        error = |y - y_hat|^p, where p is the distance's exponent, which need not be the family's.
        """
        budgets = [self._critical(s, e, exponent, threshold) for s, e in pairs(score, error, threshold)]
        return torch.from_numpy(np.array(budgets, dtype=np.float64) / shares(score, self.kappa))

    @abstractmethod
    def _critical(self, s: Array, e: Array, exponent: float, threshold: float) -> float:
        """Return the largest budget of one image that keeps the threshold."""

    def settings(self) -> dict[str, Json]:
        """Return the name and the numbers of the family."""
        return {"name": self.name, **vars(self)}


class Grey(Budgeted):
    """A family whose masks have values between 0 and 1, too."""

    def curve(
        self, score: Images, error: Images, exponent: float, lam: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """Return mean(mask^p * error) and mask size at ascending lambdas, each (N, G) float64."""
        levels = self._levels(score, lam)
        return of_each_image(score, error, levels, lambda s, e, level: self._curve(s, e, level, exponent))

    def _levels(self, score: Images, lam: Float[np.ndarray, "g"]) -> Array:
        levels: Array = self.level(score, torch.from_numpy(lam).expand(len(score), -1)).cpu().numpy()
        return levels

    @abstractmethod
    def _curve(self, s: Array, e: Array, level: Array, exponent: float) -> tuple[Array, Array]:
        """Return the curve of one image at its levels, (G, L)."""


GENTLEST, STEEPEST = 0.1, 10.0
"""Limits of gamma: beyond them powers of the score leave the range of floats."""


@dataclass(frozen=True)
class Power(Grey):
    """The mask min(1, (lam * mean(score)^kappa / (epsilon + score))^gamma); `Reciprocal` at gamma 1, kappa 0.

    The level is lam * mean(score)^kappa. A large gamma comes near a threshold at epsilon + score = level, a
    small one dims all pixels alike. Choose gamma, kappa and epsilon on images outside the calibration set.
    Solutions are exact as long as ((epsilon + smallest score) / (epsilon + largest score))^(gamma p) is above
    1e-200; float32 masks of a flat score can exceed them by gamma * p * 1e-7 of the threshold.
    """

    gamma: float = 4.0
    epsilon: float = 1e-3
    kappa: float = KAPPA
    name = "power"

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < math.inf:
            raise InvalidArgumentError(
                f"epsilon: {self.epsilon}; it must be finite and above 0, such as 1e-3"
            )
        super().__post_init__()
        if not GENTLEST <= self.gamma <= STEEPEST:
            raise InvalidArgumentError(
                f"gamma: {self.gamma}; {self.name} takes {GENTLEST} to {STEEPEST} (beyond these limits, "
                "powers of the score leave the range of floats)"
            )

    @property
    def growth(self) -> float:
        """The power of lambda than which no mask value grows faster: gamma."""
        return self.gamma

    def level(self, score: Images, lam: Float[Tensor, "n *g"]) -> Float[Tensor, "n *g l"]:
        """Return lam * mean(score)^kappa, (N, 1) or (N, G, 1), float32, rounded down, on its device."""
        levels = rounded_down(spent(score, lam, self.kappa))
        return torch.from_numpy(levels).reshape(*lam.shape, 1).to(score.device)

    def level_in_graph(self, score: Images, lam: PerImage) -> Float[Tensor, "n l"]:
        """Return the level in operations that an ONNX graph has."""
        return rounded_down_in_graph(lam * shares_in_graph(score, self.kappa))[:, None]

    def streaming_level(self, lam: float, pixels: int) -> Total:
        """Return the pass to the level of one image, from the sum of its score."""
        return Total(lam, self.kappa, pixels)

    def apply(self, score: Images, level: Float[Tensor, "n l"]) -> Images:
        """Return the mask, with the shape of the score, float32 in [0, 1]."""
        lam = per_image(level[:, 0].to(score.device, torch.float32), score)
        share = (lam / (self.epsilon + score.float())).clamp(max=1)
        return share if self.gamma == 1 else share**self.gamma  # no pass for a power of 1

    def _critical(self, s: Array, e: Array, exponent: float, threshold: float) -> float:
        # concave and piecewise linear in lam^(gamma p), with the pixel full at (epsilon + score)^(gamma p)
        goals = np.array([threshold * s.size])
        return float(full_below(s, e, self.epsilon, self.gamma * exponent, goals)[0])

    def _levels(self, score: Images, lam: Float[np.ndarray, "g"]) -> Array:
        return np.asarray(np.multiply.outer(shares(score, self.kappa), lam))

    def _curve(self, s: Array, e: Array, level: Array, exponent: float) -> tuple[Array, Array]:
        return saturating_curve(s + self.epsilon, e, level, self.gamma, exponent)


@dataclass(frozen=True)
class Reciprocal(Power):
    """The mask min(1, lam / (epsilon + score)), eq. 8 of the paper: `Power` with gamma = 1 and kappa = 0.

    It has its own name because records hold it; one lambda then stands for the same budget in every image.
    """

    gamma: float = field(default=1.0, init=False)
    kappa: float = field(default=0.0, init=False)
    name = "reciprocal"

    def settings(self) -> dict[str, Json]:
        """Return name and epsilon."""
        return {"name": self.name, "epsilon": self.epsilon}


@dataclass(frozen=True)
class TrustedMean(Grey):
    """The mask argmax sum(m) with sum(m * score) <= lam * mean(score)^kappa * sum(m) and 0 <= m <= 1.

    It shows the pixels with the smallest scores as long as their mean is within the budget: the optimum for
    the mean error of what is shown. The level is the boundary score and the fraction that pixels at it share.
    A budget of at most the smallest score shows nothing, which keeps masks left-continuous in lam. Scores are
    sorted.
    """

    kappa: float = KAPPA
    name = "trusted_mean"

    def level(self, score: Images, lam: Float[Tensor, "n *g"]) -> Float[Tensor, "n *g 2"]:
        """Return the level that spends the budget, (N, 2) or (N, G, 2); rounded down."""
        levels = fillings(score, spent(score, lam, self.kappa), of_shown=True)[..., :2]
        return torch.from_numpy(rounded_down(levels)).reshape(*lam.shape, 2).to(score.device)

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

    def _critical(self, s: Array, e: Array, exponent: float, threshold: float) -> float:
        boundary, fraction, below, at = selection(s, e, threshold * s.size)
        if np.isinf(boundary):
            return float(boundary)
        shared = fraction ** (1 / exponent)  # a mask value f spends f^p of the error
        shown = float((s < boundary).sum()) + shared * float((s == boundary).sum())
        return float((below + shared * at) / shown) if shown else float(boundary)

    def _curve(self, s: Array, e: Array, level: Array, exponent: float) -> tuple[Array, Array]:
        return boundary_curve(s, e, level[:, 0], level[:, 1], exponent)


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


@dataclass(frozen=True)
class WaterFilling(Grey):
    """The mask argmax sum(m) with mean(m^p * score) <= lam * mean(score)^kappa and 0 <= m <= 1.

    p is the exponent. p = 1: the pixels with the smallest scores are shown until the budget is spent; the
    level is the boundary score and the fraction that pixels at it share. p > 1: m = min(1, (sigma /
    score)^(1/(p-1))); the level is sigma, below which pixels are full. lam = 0 masks everything; with lam > 0
    a pixel of score 0 is never masked.
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
        super().__post_init__()

    def level(self, score: Images, lam: Float[Tensor, "n *g"]) -> Float[Tensor, "n *g l"]:
        """Return the level that spends the budget, (N, L) or (N, G, L), L = 2 if p = 1, else 1."""
        budgets = spent(score, lam, self.kappa)
        # a sort on the device costs less than the way to the kernels; on a processor the kernels are faster
        if score.is_cuda and lam.ndim == 1:
            return self.level_by_sorting(score, torch.from_numpy(budgets).to(score.device))
        if self.exponent == 1:
            levels = fillings(score, budgets, of_shown=False)[..., :2]
        else:
            levels = np.empty((*budgets.shape, 1))
            for s, budget, row in zip(images(score, "score"), budgets, levels, strict=True):
                row[:] = self._sigma(s, budget)
        opened = np.where(budgets[..., None] > 0, levels, 0)
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

    def _critical(self, s: Array, e: Array, exponent: float, threshold: float) -> float:
        if self.exponent > 1:
            return self._critical_sigma(s, e, exponent, threshold)
        boundary, fraction, below, at = selection(s, e, threshold * s.size)
        shared = fraction ** (1 / exponent)  # a mask value f spends f^p of the error
        return math.inf if math.isinf(boundary) else float((below + shared * at) / s.size)

    def _curve(self, s: Array, e: Array, level: Array, exponent: float) -> tuple[Array, Array]:
        if self.exponent == 1:
            return boundary_curve(s, e, level[:, 0], level[:, 1], exponent)
        return saturating_curve(s, e, level[:, 0], 1 / (self.exponent - 1), exponent)

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
        tops: Array = np.minimum(keys, LARGEST_KEY).astype(np.uint32).view(np.float32).astype(np.float64)
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


@dataclass(frozen=True)
class Shown:
    """What binary masks of images show at ascending lambdas; levels are found once."""

    first: list[Array]
    """For each pixel of each image the place of the first lambda that shows it."""
    sizes: Float[np.ndarray, "n g"]
    """The mask size of each image at each lambda."""

    def sums(self, values: Iterable[Array]) -> Float[np.ndarray, "n g"]:
        """Return the sum of the values, those of each image flat, over what each lambda shows."""
        rows, count = zip(self.first, values, strict=True), self.sizes.shape[1] + 1
        return np.stack([summed(*row, count)[:-1].cumsum() for row in rows])


Bounded = Literal["largest", "total", "mean"]
FULL = 1 / (4 * NOISE)
"""A budget minus 1 / FULL of itself is spent where the sum of scores is the budget up to rounding."""


@dataclass(frozen=True)
class Binary(Budgeted):
    """The mask [score < boundary]: 1 where the score is below the boundary of its image, else 0.

    The boundary is the largest at which the scores s that are shown stay below the budget lam *
    mean(score)^kappa, by what lambda bounds: "largest" the largest s, so that the boundary is the budget
    itself; "total" the sum of s over the number of all pixels; "mean" the mean of s over the shown pixels.
    For losses of the same form these are the best masks of a score that estimates the error. Pixels of equal
    score are shown or hidden together.
    """

    bounds: Bounded = "total"
    kappa: float = KAPPA
    name = "binary"

    def __post_init__(self) -> None:
        chosen({name: name for name in get_args(Bounded)}, self.bounds, "bounds")
        super().__post_init__()

    @property
    def grey(self) -> Family:
        """The family of grey masks with this boundary; they have values between 0 and 1 at it or beyond."""
        if self.bounds == "largest":
            return Power(kappa=self.kappa)
        return WaterFilling(1.0, self.kappa) if self.bounds == "total" else TrustedMean(self.kappa)

    def level(self, score: Images, lam: Float[Tensor, "n *g"]) -> Float[Tensor, "n *g 1"]:
        """Return the boundary, (N, 1) or (N, G, 1), float32, on the score's device."""
        return self.grey.level(score, self._below(lam))[..., :1]

    def level_in_graph(self, score: Images, lam: PerImage) -> Float[Tensor, "n 1"]:
        """Return the boundary in operations that an ONNX graph has."""
        return self.grey.level_in_graph(score, self._below(lam))[:, :1]

    def shown(self, score: Images, lam: Float[np.ndarray, "g"]) -> Shown:
        """Return what the masks at ascending lambdas show."""
        edges, sizes = self._edges(score, lam)
        rows = zip(images(score, "score"), edges, strict=True)
        return Shown([places_of(pixels, of_image, True) for pixels, of_image in rows], sizes)

    def sizes(self, score: Images, lam: Float[np.ndarray, "g"]) -> Float[np.ndarray, "n g"]:
        """Return the mask size at ascending lambdas, float64."""
        return self._edges(score, lam)[1]

    def curve(
        self, score: Images, error: Images, exponent: float, lam: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """Return the mean error of what is shown, over all pixels, and mask size at ascending lambdas."""
        shown = self.shown(score, lam)
        errors = (values for _, values in pairs(score, error, 0.0))
        return shown.sums(errors) / score[0].numel(), shown.sizes

    def _edges(self, score: Images, lam: Float[np.ndarray, "g"]) -> tuple[Array, Array]:
        """Return the boundary of each image at each lambda, float32, and its mask size; each (N, G)."""
        budgets = spent(score, self._below(torch.from_numpy(lam)).expand(len(score), -1), self.kappa)
        if self.bounds == "largest":
            edges = rounded_down(budgets)
            rows = zip(images(score, "score"), edges, strict=True)
            counts = np.array([np.searchsorted(radix_sorted(pixels), of_image) for pixels, of_image in rows])
        else:
            levels = fillings(score, budgets, of_shown=self.bounds == "mean")
            edges, counts = rounded_down(levels[..., 0]), levels[..., 2]
        return edges, 1 - counts / score[0].numel()

    def streaming_level(self, lam: float, pixels: int) -> StreamingLevel:
        """Return the passes to the level of one image; its first number is the boundary."""
        below = self._below(torch.tensor(lam, dtype=torch.float64))
        return self.grey.streaming_level(float(below), pixels)

    def _below(self, lam: Tensor) -> Tensor:
        """Return a lambda that is smaller by more than rounding: pixels that spend all of it are hidden."""
        exact = lam.double()
        return exact if self.bounds == "largest" else torch.where(exact.isinf(), exact, exact - exact / FULL)

    def apply(self, score: Images, level: Float[Tensor, "n l"]) -> Images:
        """Return the mask, with the shape of the score, float32, 0 or 1."""
        boundary = per_image(level[:, 0].to(score.device, torch.float32), score)
        return (score.float() < boundary).float()

    def _critical(self, s: Array, e: Array, exponent: float, threshold: float) -> float:
        # the first score with which the error exceeds; 0 and 1 are their own powers
        boundary, _, below, at = selection(s, e, threshold * s.size)
        if self.bounds == "largest" or np.isinf(boundary):
            return float(boundary)
        count = s.size if self.bounds == "total" else np.count_nonzero(s <= boundary)
        return float((below + at) / count)


FAMILIES: Mapping[str, type[Binary | Reciprocal | WaterFilling | Power | TrustedMean]] = {
    family.name: family for family in (Binary, Reciprocal, WaterFilling, Power, TrustedMean)
}
Settings = str | Mapping[str, Json]
"""The name of a family, or its name and its numbers."""


def family(choice: Settings, exponent: float = 1.0) -> Family:
    """Return the family with this name, or with the settings that Family.settings() returned.

    `exponent` is the distance's (1 where it has none), for water_filling; its kappa and that of binary masks,
    if not stated, is KAPPA / exponent: the dependence on the size of errors is then the same for every power.
    """
    settings: dict[str, Any] = {"name": choice} if isinstance(choice, str) else dict(choice)
    kind = chosen(FAMILIES, str(settings.pop("name", "")), "family")
    allowed = {field.name: field.name for field in fields(kind) if field.init}
    stated = {chosen(allowed, key, f"{kind.name} setting"): value for key, value in settings.items()}
    defaults = {"exponent": exponent, "kappa": KAPPA / exponent}
    of_a_power = ("exponent", "kappa") if kind is WaterFilling else ("kappa",) if kind is Binary else ()
    return kind(**{**{name: defaults[name] for name in of_a_power}, **stated})


def families_for(choice: Settings, exponent: float | None) -> list[Family]:
    """Return the chosen family; where the kernels serve the loss, all others too, at little cost."""
    suited = family(choice, exponent or 1.0)
    others = [] if exponent is None else [family(name, exponent) for name in FAMILIES]
    return [suited, *(other for other in others if other.name != suited.name)]
