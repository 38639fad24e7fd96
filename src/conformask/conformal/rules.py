"""Rules that map facts about an image to its lambda, and these facts; rules are stored as JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from conformask.conformal.conditional import ConditionalQuantile
from conformask.conformal.curves import Curves
from conformask.conformal.lambdas import LogLinear
from conformask.conformal.order import ROUNDING
from conformask.conformal.statements import tail_risk
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.storage.as_json import Json, number

Lambdas = Float[np.ndarray, "n"]


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


def covariates_of(curves: Curves) -> ImageCovariates:
    """Return the facts about images whose curves are stored, where the curves have them.

    If no bound is stored, the mean of the mask, 1 - size, is used, which for an lp distance is a little above
    the image's own bound.
    """
    category = None if curves.category is None else curves.category.tolist()
    bound = 1 - curves.size if curves.bound is None else curves.bound
    return ImageCovariates(len(curves.names), curves.weight, category, curves.features, bound)


@runtime_checkable
class Rule(Protocol):
    """Maps the facts that it needs to lambdas."""

    @property
    def needs(self) -> frozenset[str]:
        """The names of the facts that the rule reads."""

    @property
    def is_vacuous(self) -> bool:
        """True if some images are masked whatever they look like: the promise cannot be given."""

    def __call__(self, facts: ImageCovariates) -> Lambdas:
        """Return the lambda of each image."""

    def to_json(self) -> dict[str, Json]:
        """Return the whole rule as JSON; infinities become "inf"."""


@dataclass(frozen=True)
class ConstantLambda:
    """One lambda for every image."""

    lam: float
    kind: ClassVar[str] = "constant"
    needs: ClassVar[frozenset[str]] = frozenset()

    @property
    def is_vacuous(self) -> bool:
        """True if lambda is 0."""
        return self.lam <= 0

    def __call__(self, facts: ImageCovariates) -> Lambdas:
        """Return lam for each image."""
        return np.full(facts.n, self.lam)

    def to_json(self) -> dict[str, Json]:
        """Return the kind and the lambda."""
        return {"kind": self.kind, "lam": self.lam}

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "ConstantLambda":
        """Read the rule that to_json wrote."""
        return cls(number(record["lam"]))


@dataclass(frozen=True)
class CategoryLambda:
    """One lambda for each category."""

    lambdas: Mapping[str, float]
    kind: ClassVar[str] = "categories"
    needs: ClassVar[frozenset[str]] = frozenset({"category"})

    @property
    def is_vacuous(self) -> bool:
        """True if the lambda of any category is 0."""
        return min(self.lambdas.values()) <= 0

    def __call__(self, facts: ImageCovariates) -> Lambdas:
        """Return the lambda of each image's category.

        Raises:
            InvalidArgumentError: a category that the calibration images did not have.
        """
        unknown = sorted(set(facts.category or ()) - set(self.lambdas))
        if unknown:
            raise InvalidArgumentError(
                f"category {unknown[0]!r} was not calibrated; the calibrated categories are "
                f"{sorted(self.lambdas)}"
            )
        return np.array([self.lambdas[category] for category in facts.category or ()])

    def to_json(self) -> dict[str, Json]:
        """Return the kind and the lambdas."""
        return {"kind": self.kind, "lambdas": dict(self.lambdas)}

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "CategoryLambda":
        """Read the rule that to_json wrote."""
        return cls({key: number(value) for key, value in record["lambdas"].items()})


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
    kind: ClassVar[str] = "weighted"
    needs: ClassVar[frozenset[str]] = frozenset({"weight"})

    @classmethod
    def of(cls, critical: Lambdas, weights: Lambdas, confidence: float) -> "WeightedLambda":
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

    def __call__(self, facts: ImageCovariates) -> Lambdas:
        """Return max{lam : (weight of critical lambdas below + own) / (total + own) <= 1 - confidence}."""
        return self._lambdas(np.asarray(facts.weight, dtype=np.float64))

    def _lambdas(self, weight: Lambdas) -> Lambdas:
        budget = (1 - self.confidence + ROUNDING) * (self.total + weight) - weight
        indices = np.searchsorted(np.array(self.cumulated), budget, side="right")
        lambdas = np.array([*self.critical, math.inf])[indices]
        return np.where(budget >= 0, lambdas, 0.0)

    def to_json(self) -> dict[str, Json]:
        """Return the kind and the fields."""
        lists = {"critical": list(self.critical), "cumulated": list(self.cumulated)}
        return {"kind": self.kind, **vars(self), **lists}

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "WeightedLambda":
        """Read the rule that to_json wrote."""
        critical, cumulated = (tuple(map(number, record[key])) for key in ("critical", "cumulated"))
        return cls(critical, cumulated, float(record["total"]), float(record["confidence"]))


@dataclass(frozen=True)
class ConditionalLambda:
    """The least lambda that a regression of log critical lambdas with the new image's own could give.

    It is snapped down to the grid where there is one. See `conditional`.
    """

    features: Float[np.ndarray, "n f"]
    """Features of the calibration images."""
    logs: Float[np.ndarray, "n"]
    """Logarithms of their critical lambdas, between the ends."""
    ends: tuple[float, float]
    """The least and the largest of these logarithms: the least is deployed as lambda 0."""
    confidence: float
    grid: Float[np.ndarray, "g"] | None = None
    kind: ClassVar[str] = "conditional"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    @property
    def is_vacuous(self) -> bool:
        """True if an image whose features are the means of all would get lambda 0."""
        return bool(self._lambdas(self.features.mean(axis=0, keepdims=True))[0] <= 0)

    def __call__(self, facts: ImageCovariates) -> Lambdas:
        """Compute lambda from the features of each image; 0 where they are not finite."""
        return self._lambdas(np.asarray(facts.features, dtype=np.float64))

    def _lambdas(self, features: Float[np.ndarray, "n f"]) -> Lambdas:
        logs, (low, high) = -self._largest(features), self.ends
        closed = logs <= low + ROUNDING * (1 + abs(low))
        return _snapped(np.where(closed, 0.0, np.exp(np.minimum(logs, high))), self.grid)

    @cached_property
    def _largest(self) -> ConditionalQuantile:
        return ConditionalQuantile(self.features, -self.logs, self.confidence)

    def to_json(self) -> dict[str, Json]:
        """Return the kind and the fields."""
        grid = None if self.grid is None else self.grid.tolist()
        lists = {"features": self.features.tolist(), "logs": self.logs.tolist(), "grid": grid}
        return {"kind": self.kind, "ends": list(self.ends), "confidence": self.confidence, **lists}

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "ConditionalLambda":
        """Read the rule that to_json wrote."""
        features, logs = (np.array(record[name], dtype=np.float64) for name in ("features", "logs"))
        low, high = map(float, record["ends"])
        return cls(features, logs, (low, high), float(record["confidence"]), _grid_of(record))


def _grid_of(record: Mapping[str, Json]) -> Float[np.ndarray, "g"] | None:
    grid = record["grid"]
    return None if grid is None else np.array([number(lam) for lam in grid])


def _snapped(lam: Lambdas, grid: Float[np.ndarray, "g"] | None) -> Lambdas:
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
    kind: ClassVar[str] = "adaptive"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    @property
    def is_vacuous(self) -> bool:
        """True if every image gets lambda 0."""
        return self.shift == -math.inf

    def __call__(self, facts: ImageCovariates) -> Lambdas:
        """Compute lambda from the features of each image; 0 where it is NaN."""
        with np.errstate(over="ignore", invalid="ignore"):
            lam = np.exp(self.h(np.asarray(facts.features)) + self.shift)
        return _snapped(np.where(np.isnan(lam), 0.0, lam), self.grid)

    def to_json(self) -> dict[str, Json]:
        """Return the kind, h, shift and grid."""
        grid = None if self.grid is None else self.grid.tolist()
        return {"kind": self.kind, "h": self.h.to_json(), "shift": self.shift, "grid": grid}

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "AdaptiveLambda":
        """Read the rule that to_json wrote."""
        return cls(LogLinear.from_json(record["h"]), number(record["shift"]), _grid_of(record))


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
    kind: ClassVar[str] = "bounded_risk"
    needs: ClassVar[frozenset[str]] = frozenset({"bound_curve"})

    @property
    def is_vacuous(self) -> bool:
        """True if even an image without any possible error gets lambda 0."""
        return bool(self.lambdas(np.zeros((1, len(self.grid))))[0] <= 0)

    def __call__(self, facts: ImageCovariates) -> Lambdas:
        """Compute lambda from the bound curve of each image."""
        return self.lambdas(np.asarray(facts.bound_curve))

    def lambdas(self, bound: Float[np.ndarray, "n g"]) -> Lambdas:
        """Return max{lam : (total + tail risk of the bound) / (n + 1) <= threshold}, 0 if there is none."""
        own_risk = tail_risk(bound, self.t, self.steepness)
        exceeds = ~(self.total + own_risk <= (self.n + 1) * self.threshold * (1 + ROUNDING))
        first = np.where(exceeds.any(axis=1), exceeds.argmax(axis=1), len(self.grid))
        return np.asarray(self.grid[np.maximum(first - 1, 0)], dtype=np.float64)

    def to_json(self) -> dict[str, Json]:
        """Return the kind and the fields."""
        return {"kind": self.kind, **vars(self), "grid": self.grid.tolist(), "total": self.total.tolist()}

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "BoundedRisk":
        """Read the rule that to_json wrote."""
        grid, total = (np.array([number(value) for value in record[key]]) for key in ("grid", "total"))
        return cls(grid, total, int(record["n"]), *(float(record[key]) for key in _SCALARS))


_SCALARS = ("threshold", "t", "steepness")
RULES = {
    rule.kind: rule
    for rule in (
        ConstantLambda, CategoryLambda, WeightedLambda, ConditionalLambda, AdaptiveLambda, BoundedRisk,
    )
}  # fmt: skip


def rule_from_json(record: Mapping[str, Json]) -> Rule:
    """Read a rule that to_json wrote.

    Raises:
        MismatchError: a kind that this version does not know, or a damaged record.
    """
    if record["kind"] not in RULES:
        raise MismatchError(
            f"this version of conformask does not know the rule {record['kind']!r}: upgrade conformask"
        )
    try:
        return RULES[record["kind"]].from_json(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MismatchError(
            f"the rule {record['kind']!r} is damaged ({type(error).__name__}: {error}): copy the masker "
            "again or recalibrate"
        ) from error
