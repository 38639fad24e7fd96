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
class _RankedChange:
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
    changes = [
        change
        for row, role in enumerate(ROLES)
        for change in _changes_of_role(role, calibration[:, row], new[:, row], level / COMPARISONS)
    ]
    return tuple(
        ranked.change for ranked in sorted(changes, key=lambda ranked: ranked.strength, reverse=True)
    )


def _changes_of_role(
    role: str, calibration: Float[np.ndarray, "n 4"], new: Float[np.ndarray, "k 4"], level: float
) -> list[_RankedChange]:
    def compare(measure: _Measure, *weights: int) -> _RankedChange | None:
        return _compare(measure, role, calibration @ weights, new @ weights, level)

    brightness, contrast = compare(BRIGHTNESS, 1, 0, 0, 0), compare(CONTRAST, 0, 1, 0, 0)
    noise, sharpness = compare(NOISE, 0, 0, 1, 0), compare(SHARPNESS, 0, 0, 0, 1)
    to_signal = compare(NOISE, -1, -1, 1, 0)  # divided by brightness times contrast
    changes = brightness, contrast, *_explain_noise_and_sharpness(noise, to_signal, sharpness)
    return [change for change in changes if change is not None]


def _explain_noise_and_sharpness(
    noise: _RankedChange | None, to_signal: _RankedChange | None, sharpness: _RankedChange | None
) -> tuple[_RankedChange | None, _RankedChange | None]:
    """Return changes of noise and sharpness, without those that another change explains.

    Fine structure counts as both: a blurred image has less noise, and where both grow the clearer one is
    reported. A change of gain changes noise alone, a duller scene noise divided by the signal: noise has
    changed where both have.
    """
    if to_signal is not None and sharpness is not None and _same_direction(to_signal, sharpness):
        if sharpness.change.ratio < 1 or sharpness.strength > to_signal.strength:
            return None, sharpness
        sharpness = None
    if noise is None or to_signal is None or not _same_direction(noise, to_signal):
        return None, sharpness
    return min(noise, to_signal, key=lambda change: change.strength), sharpness


def _same_direction(one: _RankedChange, other: _RankedChange) -> bool:
    return (one.change.ratio > 1) == (other.change.ratio > 1)


def _compare(
    measure: _Measure, role: str, old: Float[np.ndarray, "n"], new: Float[np.ndarray, "k"], level: float
) -> _RankedChange | None:
    logarithm = float(np.median(new) - np.median(old))
    if abs(logarithm) < np.log(measure.smallest):
        return None
    test = stats.mannwhitneyu(new, old)
    if not test.pvalue < level:
        return None
    ratio = float(np.exp(logarithm))
    # Cliff's delta, 2 U / (n k) - 1
    separation = abs(2 * float(test.statistic) / (len(old) * len(new)) - 1)
    return _RankedChange(
        Change(measure.name, role, ratio, _text(measure, ratio)), (separation, abs(logarithm))
    )


def _text(measure: _Measure, ratio: float) -> str:
    word = measure.higher if ratio > 1 else measure.lower
    if measure is SHARPNESS:  # its ratio has no familiar unit
        return word
    if measure is BRIGHTNESS and ratio < 2:
        return f"{word} by {_fraction_text(abs(ratio - 1))}"
    return f"{word} ({ratio:.2g} times)"


def _fraction_text(fraction: float) -> str:
    percent = 100 * fraction
    nearest = min(FRACTIONS, key=lambda candidate: abs(candidate - percent))
    return FRACTIONS[nearest] if abs(nearest - percent) <= NEAR else f"{percent:.0f}\N{NO-BREAK SPACE}%"
