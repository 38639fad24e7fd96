"""Rules from what is known of an image to its lambda, stored as JSON, and regressions behind them.

Regression of a quantile with the test point is valid in a span of functions (Gibbs, Cherian and Candes 2023,
arXiv:2305.12616): for every non-negative function in the span of the features and 1, coverage weighted by it
is at least the confidence.

Bounds per image, on how far an output differs from the truth without a mask, are conformal quantile
regression (Romano, Patterson and Candes 2019) of the log unmasked loss on features of the score. Marginal
over images; if images are in groups, over a random image of a new group.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int

from conformask.errors import InvalidArgumentError
from conformask.promises.axes import LogLinear, tail_risk, zero
from conformask.promises.order import ROUNDING, Curves, ImageCovariates
from conformask.records.record import Json, value_as

DEPENDENT = 1e-9
"""Relative singular value below which features depend on each other."""
SHORT = 1e-7
"""Amount by which the pull of the test point stays below its largest: the least of several solutions."""
SLACK = 1e-10
"""Tolerance of the pull of a point on the plane."""
ZERO = 1e-10
"""Distance from a plane, and rate of its change, below which they are rounding noise."""
STEPS = 200
"""Number of exchanges after which an image is given up, and hidden; a few are usual."""
VALUES = 2**20
"""Number of residuals held at once."""
Matrix = Float[np.ndarray, "_ r"]


@dataclass(frozen=True)
class ConditionalQuantile:
    """For new features, the largest score that does not lie above its quantile regression with known ones."""

    features: Float[np.ndarray, "n f"]
    scores: Float[np.ndarray, "n"]
    """Finite scores of the known images."""
    confidence: float

    def __call__(self, features: Float[np.ndarray, "m f"]) -> Float[np.ndarray, "m"]:
        """Return sup{s : s <= the regression of all scores and s, at these features}; inf if unbounded."""
        with np.errstate(invalid="ignore", over="ignore"):
            new = self._span(features)
        usable = np.isfinite(new).all(axis=1)
        largest: Float[np.ndarray, "m"] = np.full(len(new), np.inf)
        chunk = max(1, VALUES // len(self.scores))
        for places in np.split(np.flatnonzero(usable), range(chunk, int(usable.sum()), chunk)):
            exchange = self._exchange((self.confidence - SHORT) * new[places], self._known)
            largest[places] = (new[places] * exchange.planes).sum(axis=1)
        largest[np.isnan(largest)] = np.inf
        return largest

    @cached_property
    def _scales(self) -> tuple[Float[np.ndarray, "f"], Float[np.ndarray, "f"], Matrix]:
        """Centre and scale of the features, and the map from them to an orthogonal basis of their span."""
        centre, scale = self.features.mean(axis=0), self.features.std(axis=0)
        scale = np.where(scale > DEPENDENT * (1 + np.abs(centre)), scale, np.inf)
        _, sizes, rows = np.linalg.svd(_with_ones((self.features - centre) / scale), full_matrices=False)
        kept = sizes > DEPENDENT * sizes[0]
        return centre, scale, rows[kept].T / sizes[kept]

    def _span(self, features: Float[np.ndarray, "m f"]) -> Matrix:
        centre, scale, basis = self._scales
        span: Matrix = _with_ones((features - centre) / scale) @ basis
        return span

    @cached_property
    def _design(self) -> Matrix:
        return self._span(self.features)

    @cached_property
    def _known(self) -> Int[np.ndarray, "r"]:
        """The points on the plane of the known images alone, from which those of others are not far."""
        r = self._design.shape[1]
        start: Int[np.ndarray, "r"] = scipy.linalg.qr(self._design.T, mode="r", pivoting=True)[1][:r]
        points: Int[np.ndarray, "r"] = self._exchange(np.zeros((1, r)), start).on_plane[0]
        return points

    def _exchange(self, pull: Matrix, start: Int[np.ndarray, "r"]) -> "_Exchange":
        exchange = _Exchange(self._design, self.scores, self.confidence, pull, start)
        exchange.run()
        return exchange


def _with_ones(features: Float[np.ndarray, "m f"]) -> Matrix:
    return np.column_stack([np.ones(len(features)), features])


class _Exchange:
    """The simplex method for min sum_i pinball(s_i - a_i b) - pull b, for many pulls at once.

    A plane b goes through r points. The pull of a point is the slope of its pinball loss, confidence above
    the plane, confidence - 1 below; on the plane it is what balances the others, and must lie between. A
    point that pulls more leaves the plane, which then moves until the loss no longer falls, where another
    point enters. Ties are broken as if each score were infinitely little larger, each by its own amount.
    """

    def __init__(
        self,
        design: Matrix,
        scores: Float[np.ndarray, "n"],
        confidence: float,
        pull: Matrix,
        start: Int[np.ndarray, "r"],
    ) -> None:
        self.design, self.confidence, self.pull = design, confidence, pull
        # the fractions of multiples of the golden ratio are spread evenly, in no order of the images
        self.heights = np.stack([scores, np.arange(1, len(scores) + 1) * 0.6180339887498949 % 1], axis=1)
        self.on_plane = np.tile(start, (len(pull), 1))
        self.planes = np.full(pull.shape, np.nan)
        """The planes found; NaN where the loss has no minimum."""

    def run(self) -> None:
        """Exchange points until all planes are found."""
        active = np.arange(len(self.pull))
        for _ in range(STEPS):
            if not active.size:
                return
            active = active[self._step(active)]

    def _step(self, active: Int[np.ndarray, "k"]) -> Bool[np.ndarray, "k"]:
        """Exchange a point of each of these planes; return which go on."""
        points, rows = self.on_plane[active], np.arange(len(active))
        through = self.design[points]
        planes = np.linalg.solve(through, self.heights[points])
        above, tied = np.moveaxis(self.heights - self.design @ planes, 2, 0)
        np.put_along_axis(above, points, 0.0, axis=1)
        np.put_along_axis(tied, points, 0.0, axis=1)
        above[np.abs(above) <= ZERO] = 0.0
        low, high = self.confidence - 1, self.confidence
        pulls = np.where(np.where(above == 0, tied, above) > 0, high, low)
        np.put_along_axis(pulls, points, 0.0, axis=1)
        unbalanced = pulls @ self.design + self.pull[active]
        balancing = -np.linalg.solve(np.swapaxes(through, 1, 2), unbalanced[..., None])[..., 0]
        excess = np.maximum(balancing - high, low - balancing)
        leaving = excess.argmax(axis=1)
        done = excess[rows, leaving] <= SLACK
        self.planes[active[done]] = planes[done, :, 0]
        moving: Bool[np.ndarray, "k"] = ~done
        if not moving.any():
            return moving
        direction = np.where(balancing[rows, leaving] > high, -1.0, 1.0)[moving]
        entering, found = self._entering(
            through[moving], points[moving], leaving[moving], direction,
            above[moving], tied[moving], excess[rows, leaving][moving],
        )  # fmt: skip
        moving[moving] = found
        self.on_plane[active[moving], leaving[moving]] = entering[found]
        return moving

    def _entering(
        self,
        through: Float[np.ndarray, "k r r"],
        points: Int[np.ndarray, "k r"],
        leaving: Int[np.ndarray, "k"],
        direction: Float[np.ndarray, "k"],
        above: Float[np.ndarray, "k n"],
        tied: Float[np.ndarray, "k n"],
        excess: Float[np.ndarray, "k"],
    ) -> tuple[Int[np.ndarray, "k"], Bool[np.ndarray, "k"]]:
        """Return where the loss stops falling as a plane moves away from a point, and whether it does."""
        rows = np.arange(len(points))
        unit = np.zeros(points.shape)
        unit[rows, leaving] = direction
        rates = np.linalg.solve(through, unit[..., None])[..., 0] @ self.design.T
        np.put_along_axis(rates, points, 0.0, axis=1)
        rates[np.abs(rates) <= ZERO * np.abs(rates).max(axis=1, keepdims=True)] = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            times, ties = above / rates, tied / rates
        met = (rates != 0) & np.where(above == 0, ties > 0, times > 0)
        times[~met] = np.inf
        order = np.lexsort((ties, times), axis=1)
        slopes = np.cumsum(np.take_along_axis(np.where(met, np.abs(rates), 0.0), order, 1), axis=1)
        balanced = slopes >= excess[:, None] - SLACK
        return order[rows, balanced.argmax(axis=1)], balanced[:, -1]


PerImage = Float[np.ndarray, "n"]


@dataclass(frozen=True)
class ImageBound:
    """The bound exp(h(features) + shift) on the unmasked loss of an image, with this confidence."""

    h: LogLinear
    shift: float
    confidence: float

    def __call__(self, features: Float[np.ndarray, "n f"]) -> PerImage:
        """Return the bound of each image."""
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(self.h(features) + self.shift))


def calibrated_bound(calibration: Curves, h: LogLinear | None, confidence: float) -> ImageBound | None:
    """Calibrate the shift of the bound; None where images are too few or have no features."""
    if calibration.features is None:
        return None
    # without a regression the bound is one constant, exp(shift), valid all the same
    quantile = h or zero(calibration.features)
    with np.errstate(divide="ignore"):
        excess = np.log(calibration.loss[:, -1]) - quantile(calibration.features)
    weights = np.ones(len(excess))
    if calibration.group is not None:  # those of a group add up to 1
        _, group, counts = np.unique(calibration.group, return_inverse=True, return_counts=True)
        weights = 1 / counts[group]
    # one more unit lies at infinity
    order = np.argsort(excess, kind="stable")
    reached = weights[order].cumsum() >= confidence * (weights.sum() + 1) - ROUNDING
    shift = float(excess[order[reached.argmax()]]) if reached.any() else np.inf
    return ImageBound(quantile, shift, confidence) if shift < np.inf else None


@dataclass(frozen=True)
class ConstantLambda:
    """One lambda for every image."""

    lam: float
    kind: Literal["constant"] = "constant"
    needs: ClassVar[frozenset[str]] = frozenset()

    @property
    def is_vacuous(self) -> bool:
        """True if lambda is 0."""
        return self.lam <= 0

    def __call__(self, facts: ImageCovariates) -> PerImage:
        """Return lam for each image."""
        return np.full(facts.n, self.lam)


@dataclass(frozen=True)
class CategoryLambda:
    """One lambda for each category."""

    lambdas: Mapping[str, float]
    kind: Literal["categories"] = "categories"
    needs: ClassVar[frozenset[str]] = frozenset({"category"})

    @property
    def is_vacuous(self) -> bool:
        """True if the lambda of any category is 0."""
        return min(self.lambdas.values()) <= 0

    def __call__(self, facts: ImageCovariates) -> PerImage:
        """Return the lambda of each image's category."""
        unknown = sorted(set(facts.category or ()) - set(self.lambdas))
        if unknown:
            raise InvalidArgumentError(
                f"category {unknown[0]!r} was not calibrated; the calibrated categories are "
                f"{sorted(self.lambdas)}"
            )
        return np.array([self.lambdas[category] for category in facts.category or ()])


@dataclass(frozen=True)
class WeightedLambda:
    """A lambda that depends on the weight of an image: the larger the weight, the smaller the lambda."""

    critical: tuple[float, ...]
    """Critical lambdas, ascending, as many as any weight can reach."""
    cumulated: tuple[float, ...]
    """Total weight of the critical lambdas up to each."""
    total: float
    """Total weight of all calibration images."""
    confidence: float
    kind: Literal["weighted"] = "weighted"
    needs: ClassVar[frozenset[str]] = frozenset({"weight"})

    @classmethod
    def of(cls, critical: PerImage, weights: PerImage, confidence: float) -> "WeightedLambda":
        """Make the rule from all calibration images, without those that an image of weight 0 cannot reach."""
        order = np.argsort(critical, kind="stable")
        cumulated = weights[order].cumsum()
        total = float(cumulated[-1])
        reach = int(np.searchsorted(cumulated, (1 - confidence + ROUNDING) * total, side="right")) + 1
        lambdas, sums = critical[order][:reach], cumulated[:reach]
        return cls(tuple(map(float, lambdas)), tuple(map(float, sums)), total, confidence)

    @property
    def is_vacuous(self) -> bool:
        """True if even an image of weight 0 gets lambda 0."""
        return bool(self._lambdas(np.zeros(1))[0] <= 0)

    def __call__(self, facts: ImageCovariates) -> PerImage:
        """Return max{lam : (weight of critical lambdas below + own) / (total + own) <= 1 - confidence}."""
        return self._lambdas(np.asarray(facts.weight, dtype=np.float64))

    def _lambdas(self, weight: PerImage) -> PerImage:
        budget = (1 - self.confidence + ROUNDING) * (self.total + weight) - weight
        indices = np.searchsorted(np.array(self.cumulated), budget, side="right")
        lambdas = np.array([*self.critical, math.inf])[indices]
        return np.where(budget >= 0, lambdas, 0.0)


@dataclass(frozen=True)
class ConditionalLambda:
    """The least lambda that a regression of log critical lambdas with the new image's own could give.

    It is snapped down to the grid where there is one. See `ConditionalQuantile`.
    """

    features: Float[np.ndarray, "n f"]
    """Features of the calibration images."""
    logs: Float[np.ndarray, "n"]
    """Logarithms of their critical lambdas, between the ends."""
    ends: tuple[float, float]
    """The least and the largest of these logarithms: the least is deployed as lambda 0."""
    confidence: float
    grid: Float[np.ndarray, "g"] | None = None
    kind: Literal["conditional"] = "conditional"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    @property
    def is_vacuous(self) -> bool:
        """True if an image whose features are the means of all would get lambda 0."""
        return bool(self._lambdas(self.features.mean(axis=0, keepdims=True))[0] <= 0)

    def __call__(self, facts: ImageCovariates) -> PerImage:
        """Compute lambda from the features of each image; 0 where they are not finite."""
        return self._lambdas(np.asarray(facts.features, dtype=np.float64))

    def _lambdas(self, features: Float[np.ndarray, "n f"]) -> PerImage:
        logs, (low, high) = -self._largest(features), self.ends
        closed = logs <= low + ROUNDING * (1 + abs(low))
        return _snapped(np.where(closed, 0.0, np.exp(np.minimum(logs, high))), self.grid)

    @cached_property
    def _largest(self) -> ConditionalQuantile:
        return ConditionalQuantile(self.features, -self.logs, self.confidence)


def _snapped(lam: PerImage, grid: Float[np.ndarray, "g"] | None) -> PerImage:
    """Return the grid points at or below lambdas; without a grid a little less, against rounding."""
    if grid is None:
        return lam * (1 - ROUNDING)
    return np.asarray(grid[np.searchsorted(grid, lam * (1 + ROUNDING), side="right") - 1], dtype=np.float64)


@dataclass(frozen=True)
class AdaptiveLambda:
    """exp(h(features) + shift), snapped down to the grid where there is one; in runs of conformask 0.2.

    Taking a logarithm and the exponential does not return the same float: without a grid lambda is set a
    little lower, or an image whose critical lambda ties with that of the rank would fail; grid points are met
    despite rounding.
    """

    h: LogLinear
    shift: float
    grid: Float[np.ndarray, "g"] | None = None
    kind: Literal["adaptive"] = "adaptive"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    @property
    def is_vacuous(self) -> bool:
        """True if every image gets lambda 0."""
        return self.shift == -math.inf

    def __call__(self, facts: ImageCovariates) -> PerImage:
        """Compute lambda from the features of each image; 0 where it is NaN."""
        with np.errstate(over="ignore", invalid="ignore"):
            lam = np.exp(self.h(np.asarray(facts.features)) + self.shift)
        return _snapped(np.where(np.isnan(lam), 0.0, lam), self.grid)


@dataclass(frozen=True)
class BoundedRisk:
    """The largest grid point up to which calibration risk and the image's own bound meet the threshold."""

    grid: Float[np.ndarray, "g"]
    total: Float[np.ndarray, "g"]
    """Sum of the tail risks of the calibration images."""
    n: int
    threshold: float
    t: float
    steepness: float
    """Slope of the tail risk, which for a loss d is t + steepness * max(d - t, 0)."""
    kind: Literal["bounded_risk"] = "bounded_risk"
    needs: ClassVar[frozenset[str]] = frozenset({"bound_curve"})

    @property
    def is_vacuous(self) -> bool:
        """True if even an image without any possible error gets lambda 0."""
        return bool(self.lambdas(np.zeros((1, len(self.grid))))[0] <= 0)

    def __call__(self, facts: ImageCovariates) -> PerImage:
        """Compute lambda from the bound curve of each image."""
        return self.lambdas(np.asarray(facts.bound_curve))

    def lambdas(self, bound: Float[np.ndarray, "n g"]) -> PerImage:
        """Return max{lam : (total + tail risk of the bound) / (n + 1) <= threshold}, 0 if there is none."""
        own_risk = tail_risk(bound, self.t, self.steepness)
        exceeds = ~(self.total + own_risk <= (self.n + 1) * self.threshold * (1 + ROUNDING))
        first = np.where(exceeds.any(axis=1), exceeds.argmax(axis=1), len(self.grid))
        return np.asarray(self.grid[np.maximum(first - 1, 0)], dtype=np.float64)


Rule = ConstantLambda | CategoryLambda | WeightedLambda | ConditionalLambda | AdaptiveLambda | BoundedRisk
"""Maps the facts about images that it `needs` to lambdas; records name it by its `kind`."""


def rule_from_json(record: Json) -> Rule:
    """Read the rule of a record, such as that in an exported file."""
    rule: Rule = value_as(Rule, record, "the rule")
    return rule
