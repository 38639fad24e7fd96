"""One process at a time writes a folder; its lock dies with it."""

import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from conformask.errors import OutputError
from conformask.progress import main_process

if TYPE_CHECKING:
    from filelock import FileLock

LOCK = ".lock"
OWNER = ".lock-owner"


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Be the only one that writes a folder; of several processes that Lightning started the first is it.

    May be nested within one thread.

    Raises:
        OutputError: another process writes it, or it cannot be written to.
    """
    if not main_process():
        yield
        return
    lock = _locked(folder)
    try:
        yield
    finally:
        if lock.lock_counter == 1:
            (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def _locked(folder: Path) -> "FileLock":
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=0, is_singleton=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        (folder / OWNER).write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    except NotImplementedError:
        warnings.warn(f"{folder} lies where files cannot be locked: let one process write it", stacklevel=4)
    except Timeout as error:
        raise OutputError(
            f"{folder} is being written by {_owner(folder)}: wait, or choose another"
        ) from error
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}; choose another folder") from error
    return lock


def _owner(folder: Path) -> str:
    try:
        return (folder / OWNER).read_text(encoding="utf-8")
    except OSError:
        return "another process"
