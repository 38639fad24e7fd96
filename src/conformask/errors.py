"""Exceptions and warnings of conformask: each is also the builtin one that it specialises."""

import errno
import sys
import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import TypeVar

T = TypeVar("T")


class ConformaskError(Exception):
    """Any error that conformask raises; it names the problem, where it is, what is allowed and what to do.

    Examples:
        >>> import conformask as cm
        >>> try:
        ...     cm.Promise(confidence=2)
        ... except cm.ConformaskError as error:
        ...     print(error)
        confidence = 2: must be between 0 and 1, such as 0.9
    """


class ConformaskWarning(UserWarning):
    """Any warning that conformask gives: the work goes on, but its result may not be what you want.

    Examples:
        >>> import warnings
        >>> import conformask as cm
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", cm.ConformaskWarning)  # a service may refuse instead
        ...     promise = cm.Promise(confidence=0.9)
    """

    kind: str = ""
    """What many files may be, in the plural: a verb prints the first of a kind, and counts the others."""


class InvalidArgumentError(ConformaskError, ValueError):
    """An argument outside the allowed values: names it, the value received and the remedy."""


class ImageError(ConformaskError, ValueError):
    """An image that cannot be used (unreadable, NaN, out of range, wrong shape): names the file or index."""


class MissingFileError(ConformaskError, FileNotFoundError):
    """A file or folder that should exist does not."""


class CalibrationError(ConformaskError, ValueError):
    """A promise that cannot be given: says what it would need."""


class MismatchError(ConformaskError, ValueError):
    """Two things that do not belong together: run and data, scorer and distance, file and version."""


class OutputError(ConformaskError, OSError):
    """A result that could not be written (read-only folder, full disk)."""


SYSTEM = {
    errno.EIO: "its disk or network reports an error; check that first",
    errno.ESTALE: "the network file system has lost it; repeat the command",
    errno.EACCES: "it may not be read by this user, change its permissions",
    errno.EPERM: "it may not be read by this user, change its permissions",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.EPIPE: "the program that read the output has ended",
    errno.ENOSPC: "the disk for temporary files is full; set TMPDIR to another folder",
}
"""Remedies for errors of the system, rather than of a file, by errno."""
NO_MEMORY = (
    "can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc",
    "could not create a primitive", "could not create a memory object",
)  # fmt: skip
"""Phrases, in lower case, by which torch, oneDNN, onnxruntime and the system report a lack of memory."""
MEMORY = (
    "there is not enough memory: close other programs, use a machine with more, or use smaller images, "
    "tiles (--tiled) or smaller batches (--batch-size)"
)


def expect(value: object, kind: type | UnionType, argument: str, remedy: str) -> None:
    """Refuse an argument of another type, where a public function would fail without explanation."""
    if not isinstance(value, kind):
        raise InvalidArgumentError(f"{argument} is a {type(value).__name__}; give {remedy}")


def failure_of_system(error: BaseException) -> str | None:
    """Return the failure of the system, and what to do; None for other errors.

    The causes of the error are read, too, since libraries wrap errors in their own.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in SYSTEM:
            return f"{seen.strerror}: {SYSTEM[seen.errno]}"
        if _is_out_of_memory(seen):
            return MEMORY
        if isinstance(seen, ModuleNotFoundError) and (seen.name or "").startswith("conformask."):
            return f"this needs {seen.name}, which is not there: install conformask again"
        seen = seen.__cause__ or seen.__context__
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, RuntimeError | ImportError) and any(each in text for each in NO_MEMORY)


def one_line(error: BaseException) -> str:
    """Return the message of a foreign error in one line; of a traceback, the last line, with the cause."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip() if "Traceback" in str(error) else " ".join(line.strip() for line in lines)


VERBS = {"is": "are", "was": "were", "has": "have", "lies": "lie", "holds": "hold", "differs": "differ"}
VERBS |= {"looks alike": "look alike", "looks like a copy": "look like copies"}
"""What is said of several, by what is said of one."""


def verb(count: int, singular: str) -> str:
    """Return a verb that agrees with a count: 1 image is, 2 images are."""
    return singular if count == 1 else VERBS[singular]


def chosen(choices: Mapping[str, T], name: str, what: str) -> T:
    """Return the choice with this name."""
    if name in choices:
        return choices[name]
    near = get_close_matches(name.lower(), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InvalidArgumentError(f"{what} {name!r} is unknown; choose from {list(choices)}{hint}")


INSIDE = str(Path(__file__).parent)
"""Folder of conformask's own code: a warning names the line outside of it."""


_SAID: set[str] = set()
"""What this process has been warned about."""


def warn_once(about: str, text: str, kind: str = "") -> None:
    """Warn as `warn` does, unless this process has been warned about it."""
    if about not in _SAID:
        _SAID.add(about)
        warn(text, kind)


def warn(text: str, kind: str = "") -> None:
    """Give a ConformaskWarning that names the line of the caller outside of conformask."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(INSIDE):
        frame, level = frame.f_back, level + 1
    warning = ConformaskWarning(text)
    warning.kind = kind
    warnings.warn(warning, stacklevel=level)
