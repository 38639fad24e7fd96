"""The level of a score that no machine holds: sums over its parts, in as many passes as the family needs.

A pass maps each part of the score to a short array, of which the sum over all parts leads to the next pass.
The levels are those of Family.level: sums are float64 in another order, and levels are rounded down.
"""

from dataclasses import dataclass, replace

import numpy as np

from conformask.errors import MismatchError
from conformask.masks.kernels import DIGITS, NOISE, Array, crossing, histogram, histogram_within, rounded_down
from conformask.masks.power import Power
from conformask.masks.water_filling import WaterFilling
from conformask.types import Family


@dataclass(frozen=True)
class Passes:
    """What is known after some passes over the parts of one image's score; the level after the last."""

    family: Power | WaterFilling
    lam: float
    pixels: int
    done: int = 0
    goal: float = 0.0
    """What a water-filling mask may spend."""
    below: float = 0.0
    """What it spends below the keys that are left."""
    key: int = 0
    """The leading digits of the boundary score."""
    level: Array | None = None
    """(L,) float32."""

    @property
    def count(self) -> int:
        """How many passes there are."""
        return 1 if isinstance(self.family, Power) else len(DIGITS)

    def sums_of(self, part: Array) -> Array:
        """What is summed over the parts in this pass, float64; the part is float32 of any shape."""
        pixels = np.ascontiguousarray(part).reshape(-1)
        if isinstance(self.family, Power):
            return np.array([pixels.sum(dtype=np.float64)])
        keys, (shift, bits) = pixels.view(np.uint32), DIGITS[self.done]
        if self.done == 0:
            return histogram(keys, pixels, shift, bits)
        return histogram_within(keys, pixels, shift, bits, self.key)

    def after(self, sums: Array) -> "Passes":
        """What is known after the pass that gave these sums over all parts."""
        if self.level is not None:
            return self
        if isinstance(self.family, Power):
            level = rounded_down(np.array([self._budget(float(sums[0]))]))
            return replace(self, done=1, level=level)
        known = self if self.done else replace(self, goal=self._budget(float(sums.sum())) * self.pixels)
        if known.done == 0 and sums.sum() <= known.goal * (1 + NOISE):
            return replace(known, level=np.array([np.inf if known.goal > 0 else 0, 0], np.float32))
        if known.goal == 0:
            return replace(known, level=np.zeros(2, np.float32))
        digit, below = crossing(sums, known.below, known.goal)
        key = (known.key << DIGITS[known.done][1]) | digit
        known = replace(known, done=known.done + 1, key=key, below=below)
        return (
            replace(known, level=_boundary(known, float(sums[digit]))) if known.done == known.count else known
        )

    def _budget(self, total: float) -> float:
        """lam * mean(score)^kappa, as `difficulty.spent` gives it."""
        mean = total / max(1, self.pixels)
        return float(self.lam * (mean if mean > 0 else 1.0) ** self.family.kappa)


def passes_of(family: Family, lam: float, pixels: int) -> Passes:
    """The passes to the level of one image.

    Raises:
        MismatchError: a family that needs the whole score at once.
    """
    if not (isinstance(family, Power) or (isinstance(family, WaterFilling) and family.exponent == 1)):
        raise MismatchError(
            f"the family {family.settings()} finds its level on the whole score at once: for images larger "
            "than a machine calibrate with family power, or water_filling with exponent 1"
        )
    return Passes(family, lam, pixels)


def _boundary(known: Passes, at: float) -> Array:
    score = np.array([known.key], np.uint32).view(np.float32)[0]
    fraction = min(1.0, max(0.0, (known.goal - known.below) / at))
    return rounded_down(np.array([float(score), fraction]))
