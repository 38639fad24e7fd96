"""Locks, so that one process at a time writes a folder; a lock ends with its process."""

import errno
import os
import shutil
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from conformask.errors import ConformaskWarning, OutputError
from conformask.progress import main_process
from conformask.storage.claims import OWN_NAME

if TYPE_CHECKING:
    from filelock import FileLock

LOCK = f"{OWN_NAME}.lock"
OWNER_SUFFIX = "-owner"
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of a file system that cannot lock, such as Lustre or NFS if nobody set it up."""


@contextmanager
def exclusive_folder(folder: Path, name: str | None = None) -> Iterator[None]:
    """Hold a folder's lock; of several processes that Lightning started, only the first takes it.

    With a name, hold the lock of the file with that name in it.

    It may be nested within one thread. If the file system cannot lock, it warns and continues.

    Raises:
        OutputError: another process writes it, or it cannot be written to.
    """
    path = folder / (LOCK if name is None else f"{OWN_NAME}.{name}.lock")
    lock = _locked(path, folder if name is None else folder / name) if main_process() else None
    try:
        yield
    finally:
        if lock is not None:
            if lock.lock_counter == 1:
                _owner_file(path).unlink(missing_ok=True)
            lock.release()


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that is empty but for the files of its lock."""
    with suppress(OSError):
        if all(path.name.startswith(LOCK) for path in folder.iterdir()):
            shutil.rmtree(folder)


def _locked(path: Path, shown: Path) -> "FileLock | None":
    """Return the lock at a path, held; None if the file system has no locks. Messages name `shown`."""
    from filelock import FileLock, Timeout

    # A lock by the mere presence of a file would outlive its process, and travel with a copied folder.
    lock = FileLock(path, timeout=0, is_singleton=True, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        _owner_file(path).write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    except Timeout as error:
        raise OutputError(f"{shown} is being written by {_owner(path)}: wait, or choose another") from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise OutputError(f"cannot write {shown}: {error.strerror}; choose another folder") from error
        warnings.warn(
            (f"{shown} is on a file system that cannot lock files: let only one process write to it"),
            category=ConformaskWarning,
            stacklevel=4,
        )
        return None
    return lock


def _owner_file(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}{OWNER_SUFFIX}")


def _owner(lock: Path) -> str:
    try:
        return _owner_file(lock).read_text(encoding="utf-8")
    except OSError:
        return "another process"
