"""Descriptions of how new images differ (darker, noisier, blurred); alarms do not depend on them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from conformask.records.change import Change

ROLES = ("x", "y_hat")


@dataclass(frozen=True)
class _Measure:
    """The words for a column of `appearance`."""

    name: str
    lower: str
    higher: str
    smallest: float
    """The ratio from which a change is reported."""


BRIGHTNESS = _Measure("brightness", "darker", "brighter", 1.05)
CONTRAST = _Measure("contrast", "less contrast", "more contrast", 1.1)
NOISE = _Measure("noise", "less noise", "noisier", 1.25)
SHARPNESS = _Measure("sharpness", "blurred", "sharper", 1.05)
COMPARISONS = 2 * 4
"""Number of comparisons that the level is divided by (Bonferroni): two roles, four measures."""
FRACTIONS = {10: "a tenth", 20: "a fifth", 25: "a quarter", 33: "a third", 50: "half"}
"""Percentages with a name."""
NEAR = 2
"""Percentage points within which a fraction's name is used: medians of different images are not exact."""


@dataclass(frozen=True)
class _Found:
    change: Change
    strength: tuple[float, float]
    """Separation of new images from the calibration's, and the logarithmic change of the median.

    The separation is 1 where all new images lie on one side of the calibration's, 0 where they are mixed.
    """


def changes_of(
    calibration: Float[np.ndarray, "n 2 4"], new: Float[np.ndarray, "k 2 4"], level: float
) -> tuple[Change, ...]:
    """Return the clear changes, the strongest first; both arguments are results of `appearance`.

    A change is clear if a Mann-Whitney test is significant at the level divided by the number of comparisons
    (Bonferroni), and the median changes enough to be reported.
    """
    found = [
        each
        for row, role in enumerate(ROLES)
        for each in _found_in(role, calibration[:, row], new[:, row], level / COMPARISONS)
    ]
    return tuple(each.change for each in sorted(found, key=lambda each: each.strength, reverse=True))


def _found_in(
    role: str, calibration: Float[np.ndarray, "n 4"], new: Float[np.ndarray, "k 4"], level: float
) -> list[_Found]:
    def compared(measure: _Measure, *weights: int) -> _Found | None:
        return _compared(measure, role, calibration @ weights, new @ weights, level)

    brightness, contrast = compared(BRIGHTNESS, 1, 0, 0, 0), compared(CONTRAST, 0, 1, 0, 0)
    noise, sharpness = compared(NOISE, 0, 0, 1, 0), compared(SHARPNESS, 0, 0, 0, 1)
    to_signal = compared(NOISE, -1, -1, 1, 0)  # divided by brightness times contrast
    found = brightness, contrast, *_told_apart(noise, to_signal, sharpness)
    return [each for each in found if each is not None]


def _told_apart(
    noise: _Found | None, to_signal: _Found | None, sharpness: _Found | None
) -> tuple[_Found | None, _Found | None]:
    """Return changes of noise and sharpness, without those that another change explains.

    Fine structure counts as both: a blurred image has less noise, and where both grow the clearer one is
    reported. A change of gain changes noise alone, a duller scene noise divided by the signal: noise has
    changed where both have.
    """
    if to_signal is not None and sharpness is not None and _together(to_signal, sharpness):
        if sharpness.change.ratio < 1 or sharpness.strength > to_signal.strength:
            return None, sharpness
        sharpness = None
    if noise is None or to_signal is None or not _together(noise, to_signal):
        return None, sharpness
    return min(noise, to_signal, key=lambda each: each.strength), sharpness


def _together(one: _Found, other: _Found) -> bool:
    return (one.change.ratio > 1) == (other.change.ratio > 1)


def _compared(
    measure: _Measure, role: str, before: Float[np.ndarray, "n"], now: Float[np.ndarray, "k"], level: float
) -> _Found | None:
    logarithm = float(np.median(now) - np.median(before))
    if abs(logarithm) < np.log(measure.smallest):
        return None
    test = stats.mannwhitneyu(now, before)
    if not test.pvalue < level:
        return None
    ratio = float(np.exp(logarithm))
    order = abs(2 * float(test.statistic) / (len(before) * len(now)) - 1)
    return _Found(Change(measure.name, role, ratio, _text(measure, ratio)), (order, abs(logarithm)))


def _text(measure: _Measure, ratio: float) -> str:
    word = measure.higher if ratio > 1 else measure.lower
    if measure is SHARPNESS:  # its ratio has no familiar unit
        return word
    if measure is BRIGHTNESS and ratio < 2:
        return f"{word} by {_part(abs(ratio - 1))}"
    return f"{word} ({ratio:.2g} times)"


def _part(part: float) -> str:
    percent = 100 * part
    nearest = min(FRACTIONS, key=lambda each: abs(each - percent))
    return FRACTIONS[nearest] if abs(nearest - percent) <= NEAR else f"{percent:.0f}\N{NO-BREAK SPACE}%"
