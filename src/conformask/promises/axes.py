"""The axes of a promise: statement, certainty, unit, population, and one lambda or each its own.

Each certainty says which order statistic of the critical lambdas is deployed, where one is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import scipy
from jaxtyping import Bool, Float, Int, Shaped

from conformask.errors import InvalidArgumentError
from conformask.promises.intervals import clopper_pearson, grouped_proportion
from conformask.promises.order import (
    ROUNDING,
    CalibrationData,
    Curves,
    binomial_rank,
    marginal_rank,
    meets_threshold,
    pointwise_delta,
    smallest_binomial_set,
    smallest_marginal_set,
)
from conformask.records.record import Array

PerImage = Float[np.ndarray, "n"]
CHOICES = 40
"""Number of values of t that are tried on the selection images."""


@dataclass(frozen=True)
class Coverage:
    """The statement that a share of at least `confidence` has d(m*y, m*y_hat) <= threshold."""

    confidence: float
    says: ClassVar[str] = "a share"
    bounds_a_mean: ClassVar[bool] = False
    measurable: ClassVar[bool] = True
    needs_selection: ClassVar[bool] = False

    def claim(self, event: str) -> str:
        """Return the formula P(event) >= confidence, for an event such as l1 <= 0.02."""
        return rate(event, self.confidence)

    def bounded(self, losses: PerImage, threshold: float) -> PerImage:
        """Return 1 for each image that fails, else 0."""
        return (~meets_threshold(losses, threshold)).astype(np.float64)

    def allowed(self, threshold: float) -> float:
        """Return the largest mean loss allowed: 1 - confidence."""
        return 1 - self.confidence


class _MeanStatement:
    """Common part of the statements about a mean."""

    bounds_a_mean: ClassVar[bool] = True

    def bounded(self, losses: PerImage, threshold: float) -> PerImage:
        """Return the losses."""
        return losses

    def allowed(self, threshold: float) -> float:
        """Return the largest mean loss allowed: the threshold."""
        return threshold


@dataclass(frozen=True)
class ExpectedLoss(_MeanStatement):
    """The statement that E d(m*y, m*y_hat) <= threshold."""

    says: ClassVar[str] = "a mean"
    event: ClassVar[str] = "the mean {mean} is at most the threshold"
    silent: ClassVar[str] = "a limit for any single image"
    confidence: ClassVar[None] = None
    measurable: ClassVar[bool] = True
    needs_selection: ClassVar[bool] = False
    t: ClassVar[float] = 0.0
    steepness: ClassVar[float] = 1.0

    def claim(self, loss: str, threshold: float, condition: str) -> str:
        """Return the formula E loss <= threshold."""
        return mean(loss, threshold, condition)


@dataclass(frozen=True)
class ConditionalExpectedLoss(_MeanStatement):
    """P(E[d(m*y, m*y_hat) | x] <= threshold) >= confidence: the paper's condition (3) as written.

    If the mean of t + max(d - t, 0) / (1 - confidence), with t < threshold, is at most the threshold, that
    bounds the conditional value at risk of d, hence that of its conditional mean (Rockafellar and Uryasev
    2000).
    """

    confidence: float
    t: float = 0.0
    """The start of the tail, chosen on the selection images."""
    says: ClassVar[str] = "a conditional mean"
    event: ClassVar[str] = (
        "for at least {{c}} of inputs, the loss averaged over the truths that the input leaves "
        "possible is at most the threshold"
    )
    silent: ClassVar[str] = "a limit for any single truth"
    measurable: ClassVar[bool] = False
    """False: one truth for each input cannot show the mean over its truths."""
    needs_selection: ClassVar[bool] = True

    @property
    def steepness(self) -> float:
        """The slope of the tail risk: 1 / (1 - confidence)."""
        return 1 / (1 - self.confidence)

    def claim(self, loss: str, threshold: float, condition: str) -> str:
        """Return the formula P(E[loss | x] <= threshold) >= confidence."""
        return rate(f"E[{loss} | x] <= {threshold:.4g}{condition}", self.confidence)

    def fit_on_selection(self, selection: CalibrationData, n: int) -> "ConditionalExpectedLoss":
        """Choose the t that opens the masks of the selection images most, as if they were n."""
        choices = np.linspace(0, selection.threshold, CHOICES, endpoint=False)
        n_passing = [replace(self, t=float(t)).count_passing(selection, n) for t in choices]
        return replace(self, t=float(choices[int(np.argmax(n_passing))]))

    def count_passing(self, selection: CalibrationData, n: int) -> int:
        """Count the grid points that pass, at the mean risk and bound of the selection images."""
        bound = np.full(len(selection.curves.grid), selection.upper_bound)
        if selection.own_bound:
            bound = 1 - selection.curves.size.mean(axis=0)
        risks, own_risk = (tail_risk(risk, self.t, self.steepness) for risk in (selection.risk(), bound))
        total = n * risks.mean(axis=0) + own_risk
        return int((total <= (n + 1) * selection.threshold).sum())


Statement = Coverage | ExpectedLoss | ConditionalExpectedLoss


def require_threshold(threshold: float | None) -> float:
    """Return the threshold, which a promise about a mean depends on."""
    if threshold is None or not threshold > 0:
        raise InvalidArgumentError("a promise about a mean depends on the threshold: give one above 0")
    return threshold


def tail_risk(risk: Float[np.ndarray, "..."], t: float, steepness: float) -> Float[np.ndarray, "..."]:
    """Return t + steepness * max(risk - t, 0); the risk itself for t = 0 and steepness 1."""
    return np.asarray(t + steepness * np.maximum(risk - t, 0))


def rate(event: str, confidence: float) -> str:
    """Return the formula P(event) >= confidence."""
    return f"P({event}) >= {_level(confidence)}"


def mean(loss: str, threshold: float, condition: str = "") -> str:
    """Return the formula E loss <= threshold."""
    expected = f"E[{loss}{condition}]" if " " in loss + condition else f"E {loss}"
    return f"{expected} <= {threshold:.4g}"


def with_probability(delta: float, claim: str) -> str:
    """Return the claim, for all but a share delta of calibration sets."""
    return f"with probability {_level(1 - delta)} over calibration sets, {claim}"


def _level(value: float) -> str:
    """Return a number with all of its decimals, at least two: 0.90, 0.999."""
    text = f"{value:.6g}"
    return text if len(text) > 3 else f"{value:.2f}"


THRESHOLDS = 64
"""Number of thresholds declared for a table of promises."""
SURE = "with {certainty} certainty about these calibration images, "
"""The beginning of a sentence that holds for most calibration sets."""
DRAWN = "Draw {drawn}, again and again: "
KEPT = "Except for a small share of calibration sets (delta), the following holds for this calibration: "


@dataclass(frozen=True)
class Marginal:
    """A promise on average over sets and new images, if exchangeable (Papadopoulos et al. 2002)."""

    says: ClassVar[str] = "on average over calibration sets"
    delta: ClassVar[None] = None
    needs_selection: ClassVar[bool] = False
    begins: ClassVar[str] = DRAWN
    ends: ClassVar[str] = ""
    sure: ClassVar[str] = ""

    def claim(self, statement: str) -> str:
        """Return the statement itself."""
        return statement

    def rank(self, n: int, confidence: float) -> int:
        """Return j = floor((1 - confidence)(n + 1))."""
        return marginal_rank(n, confidence)

    def smallest_set(self, confidence: float, rank: int) -> int:
        """Return rank / (1 - confidence) - 1, rounded up."""
        return smallest_marginal_set(confidence, rank)


@dataclass(frozen=True)
class TrainingConditional:
    """A promise for all but a share delta of sets of independent images (Vovk 2012; Wilks 1941)."""

    delta: float
    test: Literal["fixed_sequence", "hoeffding_bentkus"] | None = None
    """The test that is relied on; None is the usual one."""
    says: ClassVar[str] = "with probability 1 - delta"
    needs_selection: ClassVar[bool] = False
    begins: ClassVar[str] = KEPT
    ends: ClassVar[str] = ""
    sure: ClassVar[str] = SURE

    def claim(self, statement: str) -> str:
        """Return the statement, with probability 1 - delta over calibration sets."""
        return with_probability(self.delta, statement)

    def rank(self, n: int, confidence: float) -> int:
        """Return j = max{ j : P(Bin(n, 1 - confidence) <= j - 1) <= delta }."""
        return binomial_rank(n, confidence, self.delta)

    def smallest_set(self, confidence: float, rank: int) -> int:
        """Return the smallest n with this rank; for 1, confidence^n <= delta."""
        return smallest_binomial_set(confidence, self.delta, rank)


@dataclass(frozen=True)
class Simultaneous:
    """A promise for most calibration sets, for every declared threshold and every confidence at once.

    The promise is valid when threshold and confidence are chosen after looking. The images are independent
    draws from one population; thresholds are declared before the images are seen.
    """

    delta: float
    thresholds: tuple[float, ...] = ()
    """Thresholds declared from the selection images, ascending."""
    says: ClassVar[str] = "for a whole table at once"
    needs_selection: ClassVar[bool] = True
    begins: ClassVar[str] = KEPT
    sure: ClassVar[str] = f"{SURE}whichever of the declared thresholds and whichever confidence is chosen, "
    ends: ClassVar[str] = (
        ", and so for every other declared threshold and every confidence, chosen before or after"
    )

    def claim(self, statement: str) -> str:
        """Return the statement as one of many that hold at once."""
        n_declared = max(len(self.thresholds), 1)
        scope = f"for {n_declared} thresholds and every confidence at once"
        return with_probability(self.delta, f"{scope}, {statement}")

    def rank(self, n: int, confidence: float) -> int:
        """Return the rank at this confidence, from the band for all confidences and thresholds."""
        return binomial_rank(n, confidence, self._pointwise_delta(n))

    def _pointwise_delta(self, n: int) -> float:
        return pointwise_delta(n, self.delta / max(len(self.thresholds), THRESHOLDS))

    def smallest_set(self, confidence: float, rank: int) -> int:
        """Return the smallest n with this rank.

        The delta of a single rank falls slowly with n and takes long: the n that would suffice with the delta
        of a smaller n is never too large, and is taken next, until it suffices with its own.
        """
        n, next_n = 0, 1
        while next_n > n:
            n, next_n = next_n, smallest_binomial_set(confidence, self._pointwise_delta(next_n), rank)
        return n

    def fit_on_selection(self, selection: CalibrationData) -> "Simultaneous":
        """Declare this threshold and others, from a tenth of the least unmasked loss to the largest."""
        unmasked = selection.curves.loss[:, -1]
        positive = unmasked[unmasked > 0]
        low, high = (positive.min() / 10, positive.max()) if len(positive) else (1.0, 1.0)
        others = np.geomspace(min(low, selection.threshold), max(high, selection.threshold), THRESHOLDS - 1)
        thresholds = sorted({selection.threshold, *map(float, others)})
        return replace(self, thresholds=tuple(thresholds))

    def snapped(self, threshold: float) -> float:
        """Return the largest declared threshold that is at most `threshold`."""
        candidates = [a for a in self.thresholds if a <= threshold * (1 + ROUNDING)]
        if not candidates:
            raise InvalidArgumentError(
                f"threshold = {threshold:g} is below the smallest declared threshold, {self.thresholds[0]:g}"
            )
        return candidates[-1]


Certainty = Marginal | TrainingConditional | Simultaneous


IMAGES_A_COEFFICIENT = 10
"""Selection images needed per coefficient; with fewer nothing is fitted."""


@dataclass(frozen=True)
class LogLinear:
    """A linear function of features that predicts a logarithm: an intercept and coefficients."""

    intercept: float
    coefficients: tuple[float, ...]

    def __call__(self, features: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n"]:
        """Return the prediction for each row."""
        return np.asarray(self.intercept + features @ np.array(self.coefficients))


def quantile_regression(
    features: Float[np.ndarray, "n f"], target: Float[np.ndarray, "n"], quantile: float
) -> LogLinear:
    """Return the linear function that minimises the pinball loss at the quantile."""
    n, f = features.shape
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    # the pinball loss as a linear program: a residual is its positive minus its negative part
    design = scipy.sparse.csr_array(np.column_stack([np.ones(n), (features - centre) / scale]))
    cost = np.concatenate([np.zeros(f + 1), np.full(n, quantile), np.full(n, 1 - quantile)])
    identity = scipy.sparse.eye_array(n)
    equality = scipy.sparse.hstack([design, identity, -identity], format="csr")
    bounds = [(None, None)] * (f + 1) + [(0, None)] * (2 * n)
    solution = scipy.optimize.linprog(cost, A_eq=equality, b_eq=target, bounds=bounds, method="highs")
    slopes = solution.x[1 : f + 1] / scale
    return LogLinear(float(solution.x[0] - slopes @ centre), tuple(map(float, slopes)))


def zero(features: Float[np.ndarray, "n f"]) -> LogLinear:
    """Return the function that is 0 for any values of as many features."""
    return LogLinear(0.0, (0.0,) * features.shape[1])


def fit_log_quantile(
    features: Float[np.ndarray, "n f"], values: Float[np.ndarray, "n"], quantile: float
) -> LogLinear:
    """Fit the quantile of log values given the features; zero if there are too few images to fit one."""
    if len(values) < IMAGES_A_COEFFICIENT * (features.shape[1] + 1):
        return zero(features)
    return quantile_regression(features, np.log(values), quantile)


def fit_loss_quantile(
    features: Float[np.ndarray, "n f"], losses: Float[np.ndarray, "n"], confidence: float
) -> LogLinear:
    """Fit h, the confidence-quantile of the log unmasked loss given the features, on selection images."""
    usable = losses > 0
    return fit_log_quantile(features[usable], losses[usable], confidence)


@dataclass(frozen=True)
class Constant:
    """One lambda for all images of a population."""

    says: ClassVar[str] = ""
    reads: ClassVar[frozenset[str]] = frozenset()
    needs_selection: ClassVar[bool] = False
    ends: ClassVar[str] = ""
    under: ClassVar[str] = ""


@dataclass(frozen=True)
class Adaptive:
    """A lambda that follows how hard an image looks, by features of its score."""

    says: ClassVar[str] = "with an adaptive lambda"
    reads: ClassVar[frozenset[str]] = frozenset({"features"})
    needs_selection: ClassVar[bool] = True
    """True, as the ends of the grid bound the critical lambdas that it regresses."""
    ends: ClassVar[str] = "; lambda follows how hard an image looks"
    under: ClassVar[str] = "under masks that follow how hard each image looks, "


Lambda = Constant | Adaptive


Labels = Shaped[np.ndarray, "n"]
Places = Int[np.ndarray, "_"]
Columns = Mapping[str, Array | None]
"""The columns group, category and weight of the images, where present."""
Losses = Float[np.ndarray, "_ ..."]
Proportion = tuple[float, tuple[float, float]]


def members(groups: Labels) -> list[Places]:
    """Return the places of the images of each group, groups in the order of their labels."""
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(groups[order], return_index=True)
    return np.split(order, starts[1:]) if len(order) else []


def first_of_each(groups: Labels) -> Places:
    """Return the place of the first image of each group, ascending."""
    return np.sort(np.unique(groups, return_index=True)[1])


def group_means(values: Float[np.ndarray, "n *g"], groups: Labels) -> Float[np.ndarray, "k *g"]:
    """Return the mean of each group."""
    return np.stack([values[places].mean(axis=0) for places in members(groups)])


def kth_smallest(
    values: Float[np.ndarray, "n *g"], groups: Labels, share: float
) -> Float[np.ndarray, "k *g"]:
    """Return the k-th smallest value of each group, which at least this share of its values do not exceed."""
    # tolerant of rounding: 0.9 * 10 must not become 10
    ranks = [(places, max(0, math.ceil(share * len(places) - 1e-9) - 1)) for places in members(groups)]
    return np.stack([np.partition(values[places], rank, axis=0)[rank] for places, rank in ranks])


def kth_largest(values: Float[np.ndarray, "n"], groups: Labels, share: float) -> Float[np.ndarray, "k"]:
    """Return the k-th largest value of each group, which at least this share of its values reach."""
    return -kth_smallest(-values, groups, share)


@dataclass(frozen=True)
class Image:
    """A new image, if no two calibration images are dependent."""

    says: ClassVar[str] = "of new images"
    reads: ClassVar[frozenset[str]] = frozenset()
    given: ClassVar[str] = ""
    singular: ClassVar[str] = "image"
    is_group: ClassVar[bool] = False
    """True if a whole group is judged as one."""
    plural: ClassVar[str] = "images"
    drawn: ClassVar[str] = "calibration images and a new image from the same source"
    new: ClassVar[str] = "the new image"
    share_of: ClassVar[str] = "at least {c} of new images"
    mean: ClassVar[str] = "loss of new images"
    event: ClassVar[str] = "in at least {share} {whom}{origin}"
    """The beginning of a sentence about a share of units; `whom` are the new images, of this origin."""
    average: ClassVar[str] = "on average over {whom}"
    """The beginning of a sentence about a mean."""
    judged: ClassVar[str] = ""
    """How a unit is judged, after its verdict."""
    each: ClassVar[tuple[str, ...]] = ("for each image", "for each kind of image")
    """Cases in which nothing is promised."""

    def count(self, n: int, columns: Columns) -> int:
        """Return the number of units in n images."""
        return n

    def statistic_of(self, loss: str) -> str:
        """Return the loss of a unit as it is written in a formula."""
        return loss

    def losses(self, losses: Losses, groups: Labels) -> Losses:
        """Return the loss of one image of each group: images that count must be independent."""
        return np.asarray(losses[first_of_each(groups)])

    def coverage(self, met: Bool[np.ndarray, "n"], groups: Labels) -> Proportion:
        """Return the share of units that meet the threshold, and its 95 % interval."""
        return grouped_proportion(met, groups)


class _GroupUnit:
    """Common part of the units that count groups."""

    reads: ClassVar[frozenset[str]] = frozenset({"group"})
    plural: ClassVar[str] = "groups"
    drawn: ClassVar[str] = "calibration groups and a new group from the same source"

    def count(self, n: int, columns: Columns) -> int:
        """Return the number of groups in n images."""
        group = columns.get("group")
        return n if group is None else len(np.unique(group))


@dataclass(frozen=True)
class ImageOfNewGroup(_GroupUnit):
    """A random image of a new group; images of a group are dependent, groups are exchangeable."""

    says: ClassVar[str] = "of a random image of a new group"
    given: ClassVar[str] = " in a new group"
    singular: ClassVar[str] = "image"
    is_group: ClassVar[bool] = False
    new: ClassVar[str] = "a random image of the new group"
    share_of: ClassVar[str] = "on average over new groups, at least {c} of the images of a group"
    mean: ClassVar[str] = "loss of a random image of a new group"
    event: ClassVar[str] = "in at least {share} {whom}, each drawn from a new group"
    average: ClassVar[str] = "on average over new groups, and over the images of each"
    judged: ClassVar[str] = ", each group counting alike"
    each: ClassVar[tuple[str, ...]] = ("for each group", "of the images of all groups taken together")

    def statistic_of(self, loss: str) -> str:
        """Return the loss of an image as it is written in a formula."""
        return loss + self.given

    def losses(self, losses: Losses, groups: Labels) -> Losses:
        """Return the mean of each group."""
        return group_means(losses, groups)

    def coverage(self, met: Bool[np.ndarray, "n"], groups: Labels) -> Proportion:
        """Return the mean over groups of their share of images that pass, and its 95 % interval."""
        return grouped_proportion(met, groups, each_group_alike=True)

    def reduce(self, evidence: CalibrationData) -> CalibrationData:
        """Reduce each group to one unit, with the mean of its losses."""
        groups = evidence.column("group")
        return _reduce_to_first(evidence, groups, group_means(evidence.curves.loss, groups))


@dataclass(frozen=True)
class Group(_GroupUnit):
    """A new group, such as a patient, with at least a share of its images within the threshold."""

    share: float = 1.0
    """The share of images that must meet the threshold; 1 is every image."""
    says: ClassVar[str] = "of new groups"
    singular: ClassVar[str] = "group"
    is_group: ClassVar[bool] = True
    each: ClassVar[tuple[str, ...]] = ("for each group", "for each kind of group")

    @property
    def mean(self) -> str:
        """The quantity that a mean is taken of, in words."""
        if self.share >= 1:
            return "over new groups of the largest loss of their images"
        return f"over new groups of the loss that {100 * self.share:.4g} % of their images keep"

    @property
    def event(self) -> str:
        """The beginning of a sentence about a share of new groups."""
        return f"for at least {{share}} new groups{{origin}}, in {self.images}"

    @property
    def average(self) -> str:
        """The beginning of a sentence about a mean over new groups."""
        rest = "" if self.share >= 1 else f", leaving out up to {100 - 100 * self.share:.4g} % of its images"
        return f"on average over new groups, in the worst image of each{rest}"

    @property
    def judged(self) -> str:
        """How a group is judged, after its verdict."""
        return f" in {self.images}"

    @property
    def images(self) -> str:
        """The images of a group that must meet the threshold, in words."""
        return "every image" if self.share >= 1 else f"at least {100 * self.share:.4g} % of the images"

    @property
    def new(self) -> str:
        """The images of one new group, in words."""
        return f"{self.images} of the new group"

    @property
    def share_of(self) -> str:
        """The share of new groups and their images, in words."""
        return f"in at least {{c}} of new groups, {'all images' if self.share >= 1 else self.images}"

    @property
    def given(self) -> str:
        """The images of a group, as a part of a formula."""
        images = "every image" if self.share >= 1 else f"at least {self.share:.4g} of the images"
        return f" on {images} of a new group"

    def statistic_of(self, loss: str) -> str:
        """Return the statistic of a group's losses as it is written in a formula."""
        statistic = "largest" if self.share >= 1 else f"{self.share:.4g}-quantile of"
        return f"{statistic} {loss} of a new group"

    def losses(self, losses: Losses, groups: Labels) -> Losses:
        """Return the loss of each group that the required share of its images do not exceed."""
        return kth_smallest(losses, groups, self.share)

    def coverage(self, met: Bool[np.ndarray, "n"], groups: Labels) -> Proportion:
        """Return the share of groups that meet the threshold, and its exact 95 % interval."""
        passing = self.losses((~met).astype(np.float64), groups) == 0
        return float(passing.mean()), clopper_pearson(int(passing.sum()), len(passing))

    def reduce(self, evidence: CalibrationData) -> CalibrationData:
        """Reduce each group to one unit; its critical lambda is the largest at which enough images pass."""
        groups = evidence.column("group")
        reduced = _reduce_to_first(evidence, groups, self.losses(evidence.curves.loss, groups))
        return replace(reduced, critical_lambdas=kth_largest(evidence.critical_lambdas, groups, self.share))


def _reduce_to_first(
    evidence: CalibrationData, groups: Labels, losses: Float[np.ndarray, "k g"]
) -> CalibrationData:
    """Reduce groups to one image each, with the facts of its first image and without its own bound."""
    first_places = np.unique(groups, return_index=True)[1]
    curves = evidence.curves
    columns = {name: curves.columns[name] for name in ("category", "weight")}
    reduced_curves = Curves(
        names=groups[first_places].astype(str),
        grid=curves.grid,
        loss=losses,
        size=group_means(curves.size, groups),
        **{name: None if column is None else column[first_places] for name, column in columns.items()},
    )
    critical = evidence.critical_lambdas[first_places]
    return replace(evidence, curves=reduced_curves, critical_lambdas=critical, own_bound=False)


Unit = Image | ImageOfNewGroup | Group


class _Words:
    """Phrases about a population that are taken from its unit."""

    ends: ClassVar[str] = ""
    by_itself: ClassVar[str] = ""
    """Beginning of a sentence about each part of the population."""
    origin: ClassVar[str] = ""
    """The source of new units, after their name."""
    within: ClassVar[str] = ""
    """Beginning of a promise that holds on average over calibration sets."""

    def plural(self, unit: Unit) -> str:
        """Return the name of the units counted."""
        return unit.plural

    def drawn(self, unit: Unit) -> str:
        """Return the name of the units drawn repeatedly."""
        return unit.drawn

    def each(self, unit: Unit) -> tuple[str, ...]:
        """Return phrases for the cases in which nothing is promised."""
        return unit.each


@dataclass(frozen=True)
class SamePopulation(_Words):
    """The population of the calibration images."""

    says: ClassVar[str] = ""
    reads: ClassVar[frozenset[str]] = frozenset()
    given: ClassVar[str] = ""

    def count(self, unit: Unit, n: int, columns: Columns) -> tuple[int, str]:
        """Return the number of all units, and their name."""
        return unit.count(n, columns), unit.plural


@dataclass(frozen=True)
class EachCategory(_Words):
    """Every category by itself: Mondrian conformal prediction (Vovk et al. 2003)."""

    says: ClassVar[str] = "in each category"
    reads: ClassVar[frozenset[str]] = frozenset({"category"})
    given: ClassVar[str] = " | category"
    by_itself: ClassVar[str] = "for each category by itself, "
    within: ClassVar[str] = "in every category, "

    def plural(self, unit: Unit) -> str:
        """Return the name of the units counted, for each category."""
        return f"{unit.plural} of each category"

    def each(self, unit: Unit) -> tuple[str, ...]:
        """Return phrases for the cases in which nothing is promised."""
        return (f"for each {unit.singular} of a category",)

    def count(self, unit: Unit, n: int, columns: Columns) -> tuple[int, str]:
        """Return the number of units of the smallest category, and their name."""
        if (category := columns.get("category")) is None:
            return unit.count(n, columns), self.plural(unit)
        counts, group = {}, columns.get("group")
        for name in np.unique(category):
            own = category == name
            columns_of_own = {"group": None if group is None else group[own]}
            counts[str(name)] = unit.count(int(own.sum()), columns_of_own)
        smallest_category = min(counts, key=counts.__getitem__)
        return counts[smallest_category], f"{unit.plural} of category {smallest_category}"


@dataclass(frozen=True)
class Weighted(_Words):
    """A population of known likelihood ratio: weighted conformal prediction (Tibshirani et al. 2019)."""

    says: ClassVar[str] = "by weights"
    reads: ClassVar[frozenset[str]] = frozenset({"weight"})
    given: ClassVar[str] = " as weighted"
    origin: ClassVar[str] = " from the population that the weights describe"
    ends: ClassVar[str] = ", if the weights are its likelihood ratios"

    def plural(self, unit: Unit) -> str:
        """Return the name of the units counted, by the effective sample size."""
        return f"effective {unit.plural}"

    def drawn(self, unit: Unit) -> str:
        """Return the name of the units drawn repeatedly."""
        return f"calibration {unit.plural}, and one of the population that the weights describe"

    def count(self, unit: Unit, n: int, columns: Columns) -> tuple[int, str]:
        """Return the effective sample size of the units, and their name."""
        effective = self.effective_size(columns)
        count = unit.count(n, columns) if effective is None else int(effective * (1 + ROUNDING))
        return count, self.plural(unit)

    def effective_size(self, columns: Columns) -> float | None:
        """Return the effective sample size, None without weights; a group has its first image's weight."""
        weight, group = columns.get("weight"), columns.get("group")
        if weight is None:
            return None
        return effective_sample_size(weight if group is None else weight[first_of_each(group)])


Population = SamePopulation | EachCategory | Weighted


def effective_sample_size(weights: Float[np.ndarray, "n"]) -> float:
    """Return (sum w)^2 / sum w^2 (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())
