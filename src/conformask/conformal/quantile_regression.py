"""Linear quantile regression (Koenker and Bassett 1978), as a linear program."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import optimize, sparse

from conformask.storage.as_json import Json


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
    design = sparse.csr_array(np.column_stack([np.ones(n), (features - centre) / scale]))
    cost = np.concatenate([np.zeros(f + 1), np.full(n, quantile), np.full(n, 1 - quantile)])
    equality = sparse.hstack([design, sparse.eye_array(n), -sparse.eye_array(n)], format="csr")
    bounds = [(None, None)] * (f + 1) + [(0, None)] * (2 * n)
    solution = optimize.linprog(cost, A_eq=equality, b_eq=target, bounds=bounds, method="highs")
    slopes = solution.x[1 : f + 1] / scale
    return LogLinear(float(solution.x[0] - slopes @ centre), tuple(map(float, slopes)))


def constant(
    features: Float[np.ndarray, "n f"], target: Float[np.ndarray, "n"], quantile: float
) -> LogLinear:
    """Return the function that is 0 whatever the features, for when there are too few images to fit one."""
    return LogLinear(0.0, (0.0,) * features.shape[1])
