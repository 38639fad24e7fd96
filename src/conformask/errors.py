"""What conformask raises: each error is also the builtin exception that it specialises."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


class ConformaskError(Exception):
    """Any refusal of conformask; its message says what was wrong, where, what is allowed and what to do."""


class InvalidArgumentError(ConformaskError, ValueError):
    """An argument outside what is allowed: names it, the value received and the remedy."""


class ImageError(ConformaskError, ValueError):
    """An image that cannot be used (unreadable, NaN, out of range, wrong shape): names the file or index."""


class MissingFileError(ConformaskError, FileNotFoundError):
    """A file or folder that should be there is not."""


class CalibrationError(ConformaskError, ValueError):
    """A promise that cannot be given: says what it would need."""


class MismatchError(ConformaskError, ValueError):
    """Two things that do not belong together: run and data, scorer and distance, file and version."""


class OutputError(ConformaskError, OSError):
    """A result that could not be written (read-only folder, full disk)."""


def one_line(error: BaseException) -> str:
    """What an error of other code says, in one line: of a traceback the last, where the cause stands."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip() if "Traceback" in str(error) else " ".join(line.strip() for line in lines)


def chosen(choices: Mapping[str, T], name: str, what: str) -> T:
    """What goes by that name.

    Raises:
        InvalidArgumentError: nothing does; names what was probably meant.
    """
    if name in choices:
        return choices[name]
    near = get_close_matches(name, choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InvalidArgumentError(f"{what} {name!r} is unknown, choose from {list(choices)}{hint}")
