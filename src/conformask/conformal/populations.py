"""For whom a promise holds: the calibration's population, each category of it, or another by weights."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from conformask.conformal.units import Columns


@dataclass(frozen=True)
class One:
    """That of the calibration images."""

    says: ClassVar[str] = ""
    reads: ClassVar[frozenset[str]] = frozenset()
    given: ClassVar[str] = ""
    plural: ClassVar[str | None] = None
    drawn: ClassVar[str | None] = None
    each: ClassVar[tuple[str, ...] | None] = None
    ends: ClassVar[str] = ""

    def count(self, n: int, columns: Columns) -> tuple[int, str | None]:
        """All images; named as the unit names them."""
        return n, None


@dataclass(frozen=True)
class EachCategory:
    """Every category for itself: Mondrian conformal prediction (Vovk et al. 2003)."""

    says: ClassVar[str] = "in each category"
    reads: ClassVar[frozenset[str]] = frozenset({"category"})
    given: ClassVar[str] = " | category"
    plural: ClassVar[str | None] = "images of each category"
    drawn: ClassVar[str | None] = None
    each: ClassVar[tuple[str, ...] | None] = ("for each image of a category",)
    ends: ClassVar[str] = ""

    def count(self, n: int, columns: Columns) -> tuple[int, str | None]:
        """Those of the smallest category, and its name."""
        if (category := columns.get("category")) is None:
            return n, None
        names, counts = np.unique(category, return_counts=True)
        return int(counts.min()), f"images of category {names[counts.argmin()]}"


@dataclass(frozen=True)
class Weighted:
    """Another, of known likelihood ratio: weighted conformal prediction (Tibshirani et al. 2019)."""

    says: ClassVar[str] = "by weights"
    reads: ClassVar[frozenset[str]] = frozenset({"weight"})
    given: ClassVar[str] = " as weighted"
    plural: ClassVar[str | None] = "effective images"
    drawn: ClassVar[str | None] = "calibration images, and one of the population that the weights describe"
    each: ClassVar[tuple[str, ...] | None] = None
    ends: ClassVar[str] = ", if the weights are its likelihood ratios"

    def count(self, n: int, columns: Columns) -> tuple[int, str | None]:
        """The effective sample size."""
        weight = columns.get("weight")
        return n if weight is None else int(effective_sample_size(weight)), self.plural


Population = One | EachCategory | Weighted


def effective_sample_size(weights: Float[np.ndarray, "n"]) -> float:
    """(sum w)^2 / sum w^2 (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())
