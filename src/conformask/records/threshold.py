"""Thresholds as people give them: a loss, its text, or a quantile of losses on the selection images."""

import math
from typing import NoReturn

import numpy as np

from conformask.errors import InvalidArgumentError
from conformask.records.selection import Selection
from conformask.storage.as_arrays import Array


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
    raise InvalidArgumentError(f"threshold {choice!r}: give a distance above 0, or a quantile such as q0.1")
