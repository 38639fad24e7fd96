"""Files that appear whole or not at all; what killed processes left of them is swept."""

import errno
import hashlib
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from conformask.errors import MissingFileError, OutputError

MARK = ".conformask-"
"""How unfinished files begin."""


def existing(path: Path) -> Path:
    """Return the path of a file of a run folder.

    Raises:
        MissingFileError: there is no such file.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; is {path.parent} the right folder?")
    return path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it becomes `path`, on failure nothing is left.

    Raises:
        OutputError: the folder cannot be written to, the disk is full, or the name is too long.
    """
    aside = path.with_name(f"{MARK}{_here()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        yield aside
        aside.replace(path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        remedy = "give it a shorter name" if error.errno == errno.ENAMETOOLONG else "choose another folder"
        raise OutputError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error
    finally:
        _try_to_remove(aside)


@cache
def sweep(folder: Path) -> None:
    """Remove what dead processes of this machine left unfinished in a folder; once a process."""
    for left in folder.glob(f"{MARK}{_here()}-*"):
        process = left.name.removeprefix(f"{MARK}{_here()}-").split("-")[0]
        if process.isdigit() and not _alive(int(process)):
            _try_to_remove(left)


@cache
def _here() -> str:
    """The machine, and on Linux the container, whose process numbers count."""
    numbers = ""
    with suppress(OSError):
        numbers = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{socket.gethostname()}{numbers}".encode()).hexdigest()[:8]


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that it holds, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _try_to_remove(path: Path) -> None:
    with suppress(OSError):
        remove(path)
