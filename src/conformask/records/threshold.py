"""A threshold as people give it: a loss, its text, or a quantile of the losses of the selection images."""

import math
from typing import NoReturn

from conformask.errors import InvalidArgumentError
from conformask.records.curves import Selection


def positive(threshold: float) -> float:
    """The threshold, or InvalidArgumentError where it is not a distance above 0."""
    if not 0 < threshold < math.inf:
        raise InvalidArgumentError(f"threshold = {threshold:g}: must be a distance above 0")
    return float(threshold)


def threshold_of(choice: float | str, record: Selection | None) -> float:
    """A threshold given as a number, its text, or a quantile such as "q0.1" on the selection images.

    Raises:
        InvalidArgumentError: not a distance above 0, or a quantile without selection images.
    """
    if record is None and is_quantile(choice):
        raise InvalidArgumentError(f"threshold {choice!r} is a quantile on selection images: pass selection=")
    return positive(level_of(choice, record))


def level_of(choice: float | str, record: Selection | None) -> float:
    """As threshold_of, but 0 where the quantile of the losses is."""
    if record is None or not is_quantile(choice):
        return float(choice)
    return record.threshold(float(str(choice).removeprefix("q")))


def is_quantile(choice: float | str) -> bool:
    """Whether it is one such as "q0.1", or a loss.

    Raises:
        InvalidArgumentError: it is neither, or not above 0.
    """
    if not isinstance(choice, str):
        return not positive(choice)
    try:
        number = float(choice.removeprefix("q"))
    except ValueError:
        _refuse(choice)
    if not choice.startswith("q"):
        return not positive(number)
    return 0 < number < 1 or _refuse(choice)


def _refuse(choice: str) -> NoReturn:
    raise InvalidArgumentError(f"threshold {choice!r}: give a distance above 0, or a quantile such as q0.1")
