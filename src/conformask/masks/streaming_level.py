"""The level for a score larger than memory: sums over its parts, in a fixed number of passes per family.

A pass maps each part of the score to a short array; the sum of these over all parts leads to the next pass.
The levels are those of Family.level: sums are float64 in another order, and levels are rounded down.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np

from conformask.masks.kernels import DIGITS, histogram, histogram_within, rounded_down
from conformask.masks.levels import share_of_total
from conformask.storage.as_arrays import Array

AnySearch = TypeVar("AnySearch", bound="Search")


@runtime_checkable
class StreamingLevel(Protocol):
    """The level of one image after some passes over the parts of its score."""

    @property
    def count(self) -> int:
        """The number of passes."""

    @property
    def level(self) -> Array | None:
        """The level, (L,) float32; None before it is known, at the latest after the last pass."""

    def sums_of(self, part: Array) -> Array:
        """Return the array to sum over the parts in this pass, float64; the part is float32 of any shape."""

    def after(self, sums: Array) -> "StreamingLevel":
        """Return the state after the pass that gave these sums over all parts."""


@dataclass(frozen=True)
class Total:
    """A single pass to the level lam * mean(score)^kappa, from the sum of the scores."""

    lam: float
    kappa: float
    pixels: int
    level: Array | None = None
    count: ClassVar[int] = 1

    def sums_of(self, part: Array) -> Array:
        """Return the sum of the scores, (1,)."""
        return np.array([part.sum(dtype=np.float64)])

    def after(self, sums: Array) -> "Total":
        """Return the state with the level."""
        level = self.lam * share_of_total(float(sums[0]), self.pixels, self.kappa)
        return replace(self, level=rounded_down(np.array([level])))


@dataclass(frozen=True)
class Search(ABC):
    """Three passes to the boundary score of a mask: each finds a digit of its bits.

    A subclass for each family defines the sums by digit, the scores first, and where its boundary is passed.
    """

    lam: float
    kappa: float
    pixels: int
    budget: float = 0.0
    """The budget lam * mean(score)^kappa, known after the first pass."""
    done: int = 0
    key: int = 0
    """The known digits of the boundary score."""
    below: Array | float = 0.0
    """Sums over the scores below those with the known digits."""
    level: Array | None = None
    count: ClassVar[int] = len(DIGITS)
    numbers: ClassVar[int] = 2
    """Number of values in a level: the boundary score, and the fraction that pixels at it share."""

    @abstractmethod
    def sums_of(self, part: Array) -> Array:
        """Return sums by digit, (S, digits), of the pixels whose higher digits are those of the boundary."""

    @abstractmethod
    def passed(self, sums: Array, through: Array) -> Array:
        """Return the digits up to which a full mask spends more than the budget, (digits,) bool.

        `sums` are (S, digits); `through` are the sums over all scores up to each digit.
        """

    @abstractmethod
    def level_at(self, score: float, at: Array) -> tuple[float, ...]:
        """Return the level, from the boundary score and the sums at it, (S,)."""

    def after(self: AnySearch, sums: Array) -> AnySearch:
        """Return the state with one more digit; with the level after the last, or if all or nothing opens."""
        if self.level is not None:
            return self
        state = self if self.done else replace(self, budget=self._budget(float(sums[0].sum())))
        if not 0 < state.budget < math.inf:
            return state._opened(state.budget)
        through = np.column_stack([np.broadcast_to(state.below, len(sums)), sums]).cumsum(axis=1)
        exceeding = np.flatnonzero(state.passed(sums, through[:, 1:]))
        if not exceeding.size and not state.done:
            return state._opened(math.inf)
        # sums of a pass differ in order from those before: the crossing may vanish in rounding
        hidden_by_rounding = not exceeding.size
        digit = int(np.flatnonzero(sums.any(axis=0))[-1] if hidden_by_rounding else exceeding[0])
        narrowed = state.at_digit(digit, sums, through[:, digit])
        if narrowed.done < narrowed.count:
            return narrowed
        score = float(np.array([narrowed.key], np.uint32).view(np.float32)[0])
        return replace(narrowed, level=rounded_down(np.array(narrowed.level_at(score, sums[:, digit]))))

    def at_digit(self: AnySearch, digit: int, sums: Array, below: Array) -> AnySearch:
        """Return the state with the digit of this pass; below (S,) as the field."""
        key = (self.key << DIGITS[self.done][1]) | digit
        return replace(self, done=self.done + 1, key=key, below=below)

    def by_digit(self, pixels: Array, weight: Array) -> Array:
        """Sum the weight of pixels with the known digits by the digit of this pass; both flat."""
        keys, (shift, bits) = pixels.view(np.uint32), DIGITS[self.done]
        if self.done == 0:
            return histogram(keys, weight, shift, bits)
        return histogram_within(keys, weight, shift, bits, self.key)

    def _opened(self: AnySearch, boundary: float) -> AnySearch:
        """Return the state whose level opens nothing (boundary 0) or everything (boundary inf)."""
        return replace(self, level=np.array([boundary, 0], np.float32)[: self.numbers])

    def _budget(self, total: float) -> float:
        return self.lam * share_of_total(total, self.pixels, self.kappa)


def flat(part: Array) -> Array:
    """Return the pixels of a part, (n,) contiguous."""
    return np.ascontiguousarray(part).reshape(-1)
