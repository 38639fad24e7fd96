"""What calibration images say of a threshold: critical lambdas, and curves of loss and mask size.

Order statistics of critical lambdas, never interpolated; the first crossing of curves; an exact band.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import scipy
from jaxtyping import Float

from conformask.errors import InvalidArgumentError, MismatchError
from conformask.records.record import Array

STORED_AS = {"loss": "distance"}
"""Names of arrays in files, where they are not those of fields; a masker's fingerprint hashes them."""

ALONG_GRID = ("loss", "size", "bound", "hidden")
"""Arrays with a column for each point of the grid."""


@dataclass(frozen=True)
class ImageCovariates:
    """Facts about n images, all known without their truth; a rule names the facts it needs."""

    n: int
    weight: Float[np.ndarray, "n"] | None = None
    """Likelihood ratio of each image."""
    category: Sequence[str] | None = None
    features: Float[np.ndarray, "n f"] | None = None
    """Features of the scores."""
    bound_curve: Float[np.ndarray, "n g"] | None = None
    """The largest loss that any truth could give, on the grid."""


@dataclass(frozen=True)
class Curves:
    """For each image, the raw loss and the mask size at the points of a fixed grid of lambdas."""

    names: Array
    """Names of the images, (n,) strings."""
    grid: Array
    """Lambdas, (G,) increasing, from 0 to inf."""
    loss: Array
    """Losses, (n, G) float64, such as d(m*y, m*y_hat), not made monotone."""
    size: Array
    """Mask sizes, (n, G) float64: mean(1 - m)."""
    features: Array | None = None
    """Features of the scores, (n, F) float64."""
    bound: Array | None = None
    """The largest losses that any truth could give, (n, G) float64."""
    group: Array | None = None
    """Groups, (n,) strings: images of one group are dependent."""
    category: Array | None = None
    """Categories, (n,) strings."""
    weight: Array | None = None
    """Likelihood ratios, (n,) float64."""
    appearance: Array | None = None
    """Logarithms of image statistics of x and y_hat, (n, 2, 4) float64; see `masker.admission`."""
    hidden: Array | None = None
    """Shares of the regions that masks hide, (n, G) float64; None where the loss is about whole images."""

    @property
    def hidden_shares(self) -> Array:
        """Shares that masks hide, (n, G): of the regions that the loss is about, or of whole images."""
        return self.size if self.hidden is None else self.hidden

    def hidden_at(self, lambdas: Array) -> float:
        """Return the mean share that masks hide at the lambda of each image, on the grid."""
        places = np.searchsorted(self.grid, lambdas, side="right") - 1
        return float(self.hidden_shares[np.arange(len(places)), places].mean())

    @property
    def known(self) -> dict[str, Array]:
        """The arrays that there are, by the names of their fields."""
        return {name: values for name, values in vars(self).items() if values is not None}

    @property
    def columns(self) -> dict[str, Array | None]:
        """What promises need of each image, as far as it is known: group, category and weight."""
        return {"group": self.group, "category": self.category, "weight": self.weight}

    @property
    def covariates(self) -> ImageCovariates:
        """The facts about the images that rules take, where the curves have them.

        If no bound is stored, the mean of the mask, 1 - size, is used, which for an lp distance is a little
        above the image's own bound.
        """
        category = None if self.category is None else self.category.tolist()
        bound = 1 - self.size if self.bound is None else self.bound
        return ImageCovariates(len(self.names), self.weight, category, self.features, bound)

    def arrays(self, prefix: str = "") -> dict[str, Array]:
        """Return the curves as named arrays for an npz."""
        return {prefix + STORED_AS.get(name, name): values for name, values in self.known.items()}

    def take(self, places: Array) -> "Curves":
        """Return the curves of the images at these places."""
        rows = {name: values[places] for name, values in self.known.items() if name != "grid"}
        return replace(self, **rows)

    def labelled(self, columns: Mapping[str, Array | None]) -> "Curves":
        """Return the curves with these columns of their images, except those that they already have."""
        known = {name: values for name, values in columns.items() if values is not None}
        return replace(self, **{name: known[name] for name in known if vars(self)[name] is None})

    def from_start(self, start: float) -> "Curves":
        """Return the curves without the grid points between 0 and `start`."""
        kept = (self.grid == 0) | (self.grid >= start)
        rows = {name: values[:, kept] for name, values in self.known.items() if name in ALONG_GRID}
        return self if kept.all() else replace(self, grid=self.grid[kept], **rows)

    def along(self, factors: Array, grid: Array) -> "Curves":
        """Return the curves on another grid, where lambda is a point of it times the factor of each image.

        Values are those of the last grid point up to that lambda.
        """
        lambdas = np.multiply.outer(factors, grid)
        places = np.searchsorted(self.grid, lambdas, side="right") - 1
        known = self.known
        rows = {name: np.take_along_axis(known[name], places, 1) for name in ALONG_GRID if name in known}
        return replace(self, grid=grid, **rows)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], prefix: str = "") -> "Curves":
        """Read curves from the arrays that arrays() returned."""
        names = {field.name: prefix + STORED_AS.get(field.name, field.name) for field in fields(cls)}
        columns = {name: arrays[stored] for name, stored in names.items() if stored in arrays}
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in columns]
        shapes = {len(values) for name, values in columns.items() if name != "grid" and values.ndim}
        if missing or len(shapes) > 1:
            raise MismatchError(f"these curves are damaged: {missing or shapes}; copy the file again")
        return cls(**columns)


def stored(curves: Curves | None) -> Curves:
    """Return the curves of a masker; raise MismatchError where none are stored."""
    if curves is None:
        raise MismatchError(
            "no curves are stored, because an earlier version of conformask kept none here: calibrate again"
        )
    return curves


@dataclass(frozen=True)
class CalibrationData:
    """Critical lambdas and curves of n images, and the declared properties of the loss."""

    threshold: float
    critical_lambdas: Float[np.ndarray, "n"]
    """Critical lambdas: 0 where an image fails under every open mask, inf where it passes unmasked."""
    curves: Curves
    upper_bound: float | None = None
    """The largest possible value of the loss."""
    own_bound: bool = False
    """True if each image has its own bound at every lambda (lp losses)."""
    monotone: bool = True
    """True if the loss never grows when a nested mask shrinks."""

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.critical_lambdas)

    def risk(self) -> Float[np.ndarray, "n g"]:
        """Return the running maximum of the loss along the grid: the risk at any lambda up to each point."""
        return np.asarray(np.maximum.accumulate(self.curves.loss, axis=1))

    def bound(self) -> float:
        """Return the largest possible value of the loss."""
        if self.upper_bound is None:
            raise InvalidArgumentError("a promise about a mean needs a loss with an upper bound")
        return self.upper_bound

    def take(self, places: Array, groups: Array | None = None) -> "CalibrationData":
        """Return the evidence of the images at these places, in these groups if not in their own."""
        curves = self.curves.take(places)
        curves = curves if groups is None else replace(curves, group=groups)
        return replace(self, critical_lambdas=self.critical_lambdas[places], curves=curves)

    def column(self, name: str) -> Array:
        """Return a column of the curves that the guarantee needs, by the name of its field."""
        values = self.curves.known.get(name)
        if values is None:
            raise MismatchError(
                f"the stored curves have no {name}, which this promise needs: calibrate the images again"
            )
        return values


NEGLIGIBLE = 1e-18
"""Probabilities below this are dropped, which makes the band wider, never narrower."""


@lru_cache(maxsize=1024)
def pointwise_delta(n: int, delta: float) -> float:
    """Return the delta of a single rank with which all n ranks hold at once with probability 1 - delta.

    The j-th of n uniform order statistics exceeds its bound, the 1 - pointwise delta quantile of
    Beta(j, n + 1 - j), for some j with probability delta.
    """

    def excess(log_delta: float) -> float:
        return 1 - probability_below_all(rank_bounds(n, float(np.exp(log_delta)))) - delta

    low, high = np.log(delta / n), np.log(delta)
    if n == 1 or excess(low) > 0:
        return float(np.exp(low))
    root = float(scipy.optimize.brentq(excess, low, high, xtol=1e-4))
    # brentq may stop on the side where the band is too narrow
    while excess(root) > 0:
        root -= 1e-4
    return float(np.exp(root))


def rank_bounds(n: int, delta: float) -> Float[np.ndarray, "n"]:
    """Return the value that each of n uniform order statistics exceeds with probability delta."""
    ranks = np.arange(1, n + 1)
    return np.asarray(scipy.stats.beta.isf(delta, ranks, n + 1 - ranks))


def probability_below_all(bounds: Float[np.ndarray, "n"]) -> float:
    """Compute P(U_(j) <= bounds_j for all j), U uniform, by Noe's recursion as a Poisson process.

    At each bound, at least as many points as there are bounds so far must have come (Khmaladze and
    Shinjikashvili 2001; Moscovich and Nadler 2017). Bounds are ascending.
    """
    n = len(bounds)
    start, mass = 0, np.array([1.0])
    for needed, step in enumerate(np.diff(bounds, prepend=0.0, append=1.0), start=1):
        mass = np.convolve(mass, _increments(n * step))
        n_dropped = max(0, min(needed, n) - start)
        mass, start = mass[n_dropped:], start + n_dropped
        counts = np.flatnonzero(mass > NEGLIGIBLE)
        if len(counts) == 0:
            return 0.0
        mass, start = mass[counts[0] : counts[-1] + 1], start + int(counts[0])
    if not start <= n < start + len(mass):
        return 0.0
    return float(mass[n - start] / scipy.stats.poisson.pmf(n, n))


def _increments(rate: float) -> Float[np.ndarray, "k"]:
    """Return the Poisson law of new points, where it is not negligible."""
    counts = np.arange(int(rate + 12 * np.sqrt(rate) + 24))
    return np.asarray(np.exp(scipy.special.xlogy(counts, rate) - rate - scipy.special.gammaln(counts + 1)))


ROUNDING = 1e-9
"""Tolerance in floors and comparisons with 1 - confidence: 1 / (9 + 1) <= 1 - .9 is false in floats."""


def marginal_rank(n: int, confidence: float) -> int:
    """Return j = floor((1 - confidence)(n + 1)), the rank that is deployed; 0 means none (void)."""
    return min(n, math.floor((1 - confidence) * (n + 1) + ROUNDING))


def smallest_marginal_set(confidence: float, rank: int = 1) -> int:
    """Return the smallest n whose marginal rank is at least this: n + 1 >= rank / (1 - confidence)."""
    return max(rank, math.ceil((rank - ROUNDING) / (1 - confidence)) - 1)


def binomial_rank(n: int, confidence: float, delta: float) -> int:
    """Return max{j : P(Bin(n, 1 - confidence) <= j - 1) <= delta}, a tolerance bound (Wilks 1941)."""
    successes = int(scipy.stats.binom.ppf(delta, n, 1 - confidence))
    exceeds = scipy.stats.binom.cdf(successes, n, 1 - confidence) > delta * (1 + ROUNDING)
    return successes if exceeds else successes + 1


def smallest_binomial_set(confidence: float, delta: float, rank: int = 1) -> int:
    """Return the smallest n whose binomial rank is at least this; for 1, confidence^n <= delta."""
    if rank > 1:
        return smallest_set(lambda n: binomial_rank(n, confidence, delta) >= rank)
    return max(1, math.ceil((math.log(delta) + ROUNDING) / math.log(confidence)))


def smallest_set(suffices: Callable[[int], bool]) -> int:
    """Return the smallest n that suffices, if all larger n suffice too, by doubling and bisection."""
    high = 1
    while not suffices(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def smallest(critical: Float[np.ndarray, "n"], rank: int) -> float:
    """Return the rank-th smallest critical lambda; 0 (mask everything) where the rank is 0."""
    return 0.0 if rank < 1 else float(np.partition(critical, rank - 1)[rank - 1])


def largest_lambda(critical: Float[np.ndarray, "n"], weights: Float[np.ndarray, "n"], budget: float) -> float:
    """Return max{lam : the weights of the critical lambdas below it sum to at most the budget}.

    It is 0 (mask everything) where the budget is negative, inf where all weights are within it.
    """
    if budget < -ROUNDING:
        return 0.0
    order = np.argsort(critical, kind="stable")
    index = int(np.searchsorted(weights[order].cumsum(), budget + ROUNDING, side="right"))
    return float(critical[order[index]]) if index < len(critical) else math.inf


def coverage_range(n: int, rank: int | None) -> tuple[float, float] | None:
    """Return the range of coverage for 90 % of calibration sets: Beta(n + 1 - j, j).

    The law is exact where critical lambdas are distinct, else coverage is at or above it. It is (1, 1) where
    everything is masked, None where the deployed lambda has no rank.
    """
    if rank is None:
        return None
    if rank < 1:
        return 1.0, 1.0
    low, high = scipy.stats.beta.ppf([0.05, 0.95], n + 1 - rank, rank)
    return float(low), float(high)


SLACK = 1e-6
"""Relative tolerance: a loss up to threshold * (1 + SLACK) meets it, so that exact solutions count."""
REFINED = 24
"""Largest number of points added to a refined grid."""
SPREAD = 3.0
"""Number of standard errors within which the added points lie."""


def meets_threshold(
    losses: Float[np.ndarray, "..."], threshold: float
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return where a loss meets the threshold."""
    return np.asarray(losses <= threshold * (1 + SLACK))


def first_crossing(
    grid: Float[np.ndarray, "g"], losses: Float[np.ndarray, "n g"], threshold: float
) -> Float[np.ndarray, "n"]:
    """Return the largest grid point up to which every point passes; 0 if the first positive one fails.

    The largest point that passes would not be enough for a loss that is not monotone: smaller lambdas may
    fail, and a lambda smaller than the image's own is deployed.
    """
    failing = ~meets_threshold(losses, threshold)
    failing[:, 0] = False
    first = np.where(failing.any(axis=1), failing.argmax(axis=1), len(grid))
    return np.asarray(grid[np.maximum(first - 1, 0)], dtype=np.float64)


def between_grid_points(
    grid: Float[np.ndarray, "g"], losses: Float[np.ndarray, "n g"], threshold: float
) -> Float[np.ndarray, "n"]:
    """Interpolate from the last passing point to where the threshold is met: finer, but not critical.

    The result is 0 or inf where first_crossing gives it, and the last passing point where the next is inf.
    """
    last_passing = np.searchsorted(grid, first_crossing(grid, losses, threshold))
    next_points = np.minimum(last_passing + 1, len(grid) - 1)
    rows = np.arange(len(losses))
    low, high = losses[rows, last_passing], losses[rows, next_points]
    share = np.clip((threshold - low) / np.maximum(high - low, np.finfo(float).tiny), 0, 1)
    crossings, end = grid[last_passing], grid[next_points]
    between = (last_passing > 0) & np.isfinite(end)
    crossings[between] += share[between] * (end[between] - crossings[between])
    return np.asarray(crossings, dtype=np.float64)


def best_start(
    grid: Float[np.ndarray, "g"],
    losses: Float[np.ndarray, "n g"],
    hidden: Float[np.ndarray, "g"],
    threshold: float,
    confidence: float,
) -> float:
    """Return the grid point from which on a loss relative to what is shown is looked at.

    Where little is shown, a few pixels or objects decide, and first crossings from 0 on end there. An image
    that fails at the start has the critical lambda 0. The start is where the lambdas that the first crossings
    from there on give hide least, on average over the numbers of failures that the confidence allows: at one
    number alone, a start would be chosen at which many other images fail. It is valid if these are no
    calibration images. The grid goes from 0 to inf; `hidden` are mean hidden shares at its points.
    """
    allowed = max(1, math.floor((1 - confidence) * (len(losses) + 1) + ROUNDING))
    points = np.arange(len(grid))
    failing = np.where(meets_threshold(losses, threshold), len(grid), points)
    first = np.minimum.accumulate(failing[:, ::-1], axis=1)[:, ::-1]  # from each point on
    before = np.sort(np.where(first == points, 0, first - 1), axis=0)[:allowed]
    starts = points[1:-1]
    return float(grid[starts[np.argmin(hidden[before].mean(axis=0)[starts])]])


def refined(
    grid: Float[np.ndarray, "g"], critical: Float[np.ndarray, "n"], confidence: float
) -> Float[np.ndarray, "h"]:
    """Return the grid with up to REFINED more points where the lambda of this confidence is likely to be.

    `critical` are critical lambdas of images other than the calibration's. The points are quantiles of them,
    within SPREAD standard errors of 1 - confidence, so that few images are lost from one point to the next.
    """
    # the binomial standard error of the share of images below the deployed lambda
    half = SPREAD * np.sqrt(confidence * (1 - confidence) / len(critical))
    shares = np.linspace(max(1 - confidence - half, 0), min(1 - confidence + half, 1), REFINED)
    points = np.quantile(np.clip(critical, grid[1], grid[-2]), shares)
    return np.union1d(grid, points)
