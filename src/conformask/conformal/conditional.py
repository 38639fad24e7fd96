"""Regression of a quantile with the test point: conformal prediction that is valid in a span of functions.

Gibbs, Cherian and Candes 2023 (arXiv:2305.12616): for every non-negative function in the span of the features
and 1, coverage weighted by it is at least the confidence.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int

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
