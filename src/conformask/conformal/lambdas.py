"""Constant or adaptive lambda: one for all images, or one for each by linear quantile regression."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy
from jaxtyping import Float

from conformask.storage.as_json import Json

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

    def to_json(self) -> dict[str, Json]:
        """Return the function as JSON."""
        return {"intercept": self.intercept, "coefficients": list(self.coefficients)}

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "LogLinear":
        """Read the function that to_json wrote."""
        return cls(float(record["intercept"]), tuple(map(float, record["coefficients"])))


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
