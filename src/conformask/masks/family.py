"""What a family of masks owes, and its level for a score larger than memory.

That level is found in a fixed number of passes per family. A pass maps each part of the score to a short
array; the sum of these over all parts leads to the next pass. The levels are those of Family.level: sums are
float64 in another order, and levels are rounded down.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from conformask.arrays import Array, Images, PerImage, image_means
from conformask.errors import MismatchError
from conformask.masks.kernels import DIGITS, histogram, histogram_within, rounded_down, share_of_total
from conformask.records.record import Json

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


SMALLEST, LARGEST = 1e-36, 1e36
"""Limits of lambdas: float32 holds them with their margin, and any scores worth distinguishing."""
HALVINGS = 28
"""Number of bisections of [log SMALLEST, log LARGEST], to one part in 10^6 of lambda."""


def largest_lambda(
    passes: Callable[[Float[Tensor, "n"]], Bool[Tensor, "n"]], n: int, device: torch.device
) -> Float[Tensor, "n"]:
    """Return the largest lambda of each image that passes, from below, to one part in 10^6; float64.

    passes(lambdas) says of each image whether it passes; it is called HALVINGS + 2 times. The result is inf
    where an image passes unmasked, 0 where it fails at the smallest lambda.
    """
    low, high = (
        torch.full((n,), math.log(end), dtype=torch.float64, device=device) for end in (SMALLEST, LARGEST)
    )
    infeasible, unmasked = ~passes(low.exp()), passes(torch.full_like(low, math.inf))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        passed = passes(middle.exp())
        low, high = torch.where(passed, middle, low), torch.where(passed, high, middle)
    return low.exp().masked_fill(infeasible, 0.0).masked_fill(unmasked, math.inf)


class Family(ABC):
    """A nested family of masks F(score; lam): 0 at lam = 0, 1 at lam = inf, never shrinking in between.

    lam has shape (N,) or (N, G); the level holds a few numbers for each image and lambda. A family of your
    own needs a name, `level` and `apply`; an exact formula replaces the bisection of `critical_lambda`.
    """

    name: str
    """The family's name."""

    @property
    def degree(self) -> float:
        """The power of a factor on the score by which lambda has to grow to leave a mask as it is."""
        return 1.0

    @property
    def growth(self) -> float:
        """The power of lambda than which no mask value grows faster; inf where none is known."""
        return math.inf

    @abstractmethod
    def level(self, score: Images, lam: Float[Tensor, "n *g"]) -> Float[Tensor, "n *g l"]:
        """Compute the level that apply needs from the whole image: (N, L), or (N, G, L)."""

    @abstractmethod
    def apply(self, score: Images, level: Float[Tensor, "n l"]) -> Images:
        """Compute the mask, pixel by pixel, with the shape of the score; in [0, 1]."""

    def critical_lambda(
        self, score: Images, error: Images, exponent: float, threshold: float
    ) -> Float[Tensor, "n"]:
        """Return sup{lam : mean(F(score; l)^p * error) <= threshold for all l <= lam}, (N,) float64.

        error is |y - y_hat|^p with the shape of the score (averaged over channels for a one-channel score).
        The result is +inf where the image passes unmasked, 0 where it fails for every lam > 0. The default is
        found by bisection, from below.
        """

        def passes(lambdas: Float[Tensor, "n"]) -> Tensor:
            mask = self.apply(score, self.level(score, lambdas)).double()
            return image_means(mask**exponent * error) <= threshold

        return largest_lambda(passes, len(score), score.device)

    def curve(
        self, score: Images, error: Images, exponent: float, lam: Float[np.ndarray, "g"]
    ) -> tuple[Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
        """Return mean(F(score; lam)^p * error) and mask size at ascending lambdas from 0 to inf, float64."""
        columns = []
        for value in lam:
            lambdas = torch.full((len(score),), value, dtype=torch.float64, device=score.device)
            mask = self.apply(score, self.level(score, lambdas)).double()
            columns.append(torch.stack((image_means(mask**exponent * error), 1 - image_means(mask))))
        losses, sizes = torch.stack(columns, dim=2).cpu().numpy()
        return losses, sizes

    def sizes(self, score: Images, lam: Float[np.ndarray, "g"]) -> Float[np.ndarray, "n g"]:
        """Return the mask size at ascending lambdas from 0 to inf, float64."""
        return self.curve(score, torch.zeros_like(score), 1.0, lam)[1]

    def settings(self) -> dict[str, Json]:
        """Return the family's parameters as JSON, including its name."""
        return {"name": self.name}

    def level_in_graph(self, score: Images, lam: PerImage) -> Float[Tensor, "n l"]:
        """Return the level in operations that an ONNX graph has.

        Raises:
            MismatchError: the family is the user's own and has no such method.
        """
        raise MismatchError(
            f"your own family {self.name!r} needs a method level_in_graph(score, lam), which computes its "
            "level in operations of an ONNX graph"
        )

    def streaming_level(self, lam: float, pixels: int) -> StreamingLevel:
        """Return the level of one image before the first pass over the parts of its score.

        Raises:
            MismatchError: the family is the user's own and has no such method.
        """
        raise MismatchError(
            f"your own family {self.name!r} needs a method streaming_level(lam, pixels), which computes its "
            "level by sums over the blocks of an image"
        )


def refuse_unrelated(family: Family) -> None:
    """Refuse an object that calibration takes for a family, but that may lack the methods of `Family`."""
    if not isinstance(family, Family):
        raise MismatchError(
            f"your own family {family.name!r} has to inherit from conformask.masks.family.Family, which "
            "describes the method that is needed here"
        )
