"""Populations a promise holds for: the calibration's, each category of it, or another one by weights."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from conformask.conformal.order import ROUNDING
from conformask.conformal.units import Columns, Unit, first_of_each


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
        counts = {}
        for name in np.unique(category):
            members = category == name
            group = columns.get("group")
            counts[str(name)] = unit.count(
                int(members.sum()), {"group": None if group is None else group[members]}
            )
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
        weights = weight if group is None else weight[first_of_each(group)]
        return effective_sample_size(weights)


Population = SamePopulation | EachCategory | Weighted


def effective_sample_size(weights: Float[np.ndarray, "n"]) -> float:
    """Return (sum w)^2 / sum w^2 (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())
