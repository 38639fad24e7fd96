"""Descriptions of how new images differ (darker, noisier, blurred); alarms do not depend on them."""

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from conformask.masker.appearance import ROLES
from conformask.records.change import Change

SMALLEST = {"brightness": 1.05, "contrast": 1.1, "noise": 1.25, "sharpness": 1.05}
"""The ratio from which a change of each property is reported."""
COMPARISONS = 2 * 4
"""Number of comparisons that the level is divided by (Bonferroni): two roles, four measures."""


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
    def compare(measure: str, *weights: int) -> _RankedChange | None:
        return _compare(measure, role, calibration @ weights, new @ weights, level)

    brightness, contrast = compare("brightness", 1, 0, 0, 0), compare("contrast", 0, 1, 0, 0)
    noise, sharpness = compare("noise", 0, 0, 1, 0), compare("sharpness", 0, 0, 0, 1)
    to_signal = compare("noise", -1, -1, 1, 0)  # divided by brightness times contrast
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
    measure: str, role: str, old: Float[np.ndarray, "n"], new: Float[np.ndarray, "k"], level: float
) -> _RankedChange | None:
    logarithm = float(np.median(new) - np.median(old))
    if abs(logarithm) < np.log(SMALLEST[measure]):
        return None
    test = scipy.stats.mannwhitneyu(new, old)
    if not test.pvalue < level:
        return None
    ratio = float(np.exp(logarithm))
    # Cliff's delta, 2 U / (n k) - 1
    separation = abs(2 * float(test.statistic) / (len(old) * len(new)) - 1)
    return _RankedChange(Change(measure, role, ratio), (separation, abs(logarithm)))
