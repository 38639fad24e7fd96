"""The window of values that is shown from black to white, and presets in the units of a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite

import numpy as np

from conformask.data.formats.header import DataRange
from conformask.errors import InvalidArgumentError
from conformask.storage.as_arrays import Array

UNIT: DataRange = (0.0, 1.0)
PHOTOGRAPHS: tuple[DataRange, ...] = (UNIT, (0.0, 255.0))
FILLED, HARDLY_FILLED = 0.8, 0.3
"""Share of the range from which on an image fills it, and the same for ranges of photographs."""
NARROWEST = 1e-3
"""The narrowest window, as a share of the range."""
LOWEST, HIGHEST = (-3100, -150), (150, 32767)
"""Bounds of both ends of a range of Hounsfield units (HU), which reaches from below fat to above muscle."""


@dataclass(frozen=True)
class ContrastPreset:
    """A window of Hounsfield units, by its middle and width."""

    name: str
    level: float
    width: float


PRESETS = (
    ContrastPreset("Brain", 40, 80),
    ContrastPreset("Lung", -600, 1500),
    ContrastPreset("Bone", 400, 1800),
    ContrastPreset("Soft tissue", 40, 400),
)


@dataclass(frozen=True)
class Contrast:
    """The part of [0, 1] that is shown from black to white."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            raise InvalidArgumentError(
                f"a contrast window from {self.low} to {self.high}: its end must lie above its start"
            )

    def __call__(self, values: Array) -> Array:
        """Map the window to [0, 1]: black becomes 0, white 1."""
        if (self.low, self.high) == UNIT:
            return values
        windowed: Array = np.clip((values - self.low) / (self.high - self.low), 0, 1)
        return windowed


def window_of(data_range: DataRange, ends: tuple[float, float]) -> tuple[float, float]:
    """Return the level and the width of a window, in units of the file, from its ends in [0, 1]."""
    low, high = data_range
    start, end = (low + (high - low) * share for share in ends)
    return (start + end) / 2, max(end - start, NARROWEST * (high - low))


def default_window(data_range: DataRange, most: tuple[float, float]) -> tuple[float, float] | None:
    """Return the window that an image is first shown in; None for the full range.

    Ranges without a unit, such as those of MR and of cameras with 12 bits, are often hardly filled: most
    values are shown. Photographs, and CT in HU, are shown as they are, unless a photograph is all but black.
    """
    filled = HARDLY_FILLED if data_range in PHOTOGRAPHS else FILLED
    if presets(data_range) or most[1] - most[0] > filled:
        return None
    return window_of(data_range, most)


def presets(data_range: DataRange) -> tuple[ContrastPreset, ...]:
    """Return the CT presets of which at least half lies in the range; none unless the range is one of HU."""
    low, high = data_range
    if not (LOWEST[0] <= low <= LOWEST[1] and HIGHEST[0] <= high <= HIGHEST[1]):
        return ()
    return tuple(_visible_presets(low, high))


def _visible_presets(low: float, high: float) -> Iterator[ContrastPreset]:
    for preset in PRESETS:
        start, end = preset.level - preset.width / 2, preset.level + preset.width / 2
        if min(end, high) - max(start, low) >= preset.width / 2:
            yield preset
