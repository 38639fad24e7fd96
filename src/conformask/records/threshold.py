"""Thresholds and tolerances as people give them: a number, a share of the range, or in units of the images.

A threshold may also be a quantile of losses on the selection images.
"""

import math
import re
from typing import NoReturn

import numpy as np

from conformask.errors import InvalidArgumentError
from conformask.names import SHARES
from conformask.records.loss import LossTerms
from conformask.records.selection import Selection
from conformask.records.values import Values
from conformask.storage.as_arrays import Array

PLAIN = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
"""A number without a unit."""
WITH_UNIT = re.compile(rf"({PLAIN.pattern})\s*([^\s\d.].*)")
"""A number and its unit, such as 5% or 0.5 m."""


def threshold_in_loss(choice: float | str, loss: LossTerms, values: Values | None) -> float | str:
    """Return a threshold with a unit as a value of the loss, and others as they are.

    A share of pixels or objects takes 5%. An error |y - y_hat| takes 5% of the range, or 0.5m where `values`
    have that unit; for l2 that is the root mean square, as in its sentence, for others such a power mean.

    Raises:
        InvalidArgumentError: the loss is not in that unit, or the unit is not that of the images.
    """
    match = _with_unit(choice)
    if match is None:
        return choice
    if loss.over not in SHARES:
        return _error_of(match, f"threshold {choice!r}", loss, values)
    if match[2] != "%":
        raise InvalidArgumentError(
            f"threshold {choice!r}: the loss {loss.name} is a share, not an error: give 5%, for example"
        )
    return positive(float(match[1]) / 100)


def tolerance_of(choice: float | str, loss: LossTerms, values: Values | None) -> float:
    """Return a tolerance given as a number, its text, 5% of the range, or 0.5m where `values` have that unit.

    Raises:
        InvalidArgumentError: it is none of these, or the unit is not that of the images.
    """
    if match := _with_unit(choice):
        return _error_of(match, f"tolerance {choice!r}", loss, values)
    try:
        return float(choice)
    except ValueError as error:
        raise InvalidArgumentError(
            f"tolerance {choice!r}: give an error, such as 0.1, 10% of the range, or 0.5m with --units m"
        ) from error


def _with_unit(choice: float | str) -> re.Match[str] | None:
    """Return number and unit; None for numbers without one, and other texts."""
    if not isinstance(choice, str) or PLAIN.fullmatch(choice.strip()):
        return None
    return WITH_UNIT.fullmatch(choice.strip())


def _error_of(match: re.Match[str], what: str, loss: LossTerms, values: Values | None) -> float:
    number, unit = float(match[1]), match[2]
    if loss.exponent is None:
        raise InvalidArgumentError(
            f"{what}: {loss.distance_label} is not in the values of the images: give a number without a unit"
        )
    if unit == "%":
        return float((number / 100) ** loss.exponent)
    if values is None or values.units is None:
        raise InvalidArgumentError(
            f"{what}: the unit of the calibration images is not stated: state it, --units {unit} "
            f"(Reading(units={unit!r})), or give a share of the range, such as 5%"
        )
    if unit != values.units:
        raise InvalidArgumentError(
            f"{what}: the values of the images are in {values.units}: give it in {values.units}"
        )
    return float((number / values.span) ** loss.exponent)


def positive(threshold: float) -> float:
    """Return the threshold; raise InvalidArgumentError if it is not a distance above 0."""
    if not 0 < threshold < math.inf:
        raise InvalidArgumentError(f"threshold = {threshold:g}: must be a distance above 0")
    return float(threshold)


def threshold_of(choice: float | str, record: Selection | None) -> float:
    """Return a threshold given as a number, its text, or a quantile such as "q0.1" on the selection images.

    Raises:
        InvalidArgumentError: the choice is not above 0, or is a quantile without selection images.
    """
    if record is None and is_quantile(choice):
        raise InvalidArgumentError(f"threshold {choice!r} is a quantile on selection images: pass selection=")
    return positive(float(choice) if record is None else level_of(choice, record.unmasked_loss))


def level_of(choice: float | str, losses: Array) -> float:
    """Return a threshold from unmasked losses, as by threshold_of; 0 where their quantile is 0."""
    if not is_quantile(choice):
        return float(choice)
    return float(np.quantile(losses, float(str(choice).removeprefix("q"))))


def is_quantile(choice: float | str) -> bool:
    """Return whether the choice is a quantile such as "q0.1"; otherwise it is a loss.

    Raises:
        InvalidArgumentError: the choice is neither, or not above 0.
    """
    if not isinstance(choice, str):
        positive(choice)
        return False
    if _with_unit(choice) is not None:
        return False
    try:
        number = float(choice.removeprefix("q"))
    except ValueError:
        _refuse(choice)
    if not choice.startswith("q"):
        positive(number)
        return False
    if not 0 < number < 1:
        _refuse(choice)
    return True


def _refuse(choice: str) -> NoReturn:
    raise InvalidArgumentError(
        f"threshold {choice!r}: give a distance above 0, a percentage such as 5%, or a quantile such as q0.1"
    )
