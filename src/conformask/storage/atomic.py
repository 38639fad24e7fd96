"""Files that appear wholly or not at all; remnants of killed processes are removed.

A file is on the disk before it gets its name, so that even a power cut leaves the old or the new one.
"""

import errno
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from conformask.errors import ConformaskError, MissingFileError, OutputError
from conformask.storage.claims import OWN_NAME, claimed_by, refuse_unclaimed
from conformask.storage.hashes import hash_of_text

MARK = f"{OWN_NAME}-"
"""Beginning of the names of unfinished files."""


def existing(path: Path) -> Path:
    """Return the path of a file of a run folder.

    Raises:
        MissingFileError: there is no such file.
    """
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; is {path.parent} the right folder?")
    return path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it becomes `path`, on failure nothing is left.

    Raises:
        OutputError: something lies there that no record of conformask claims, the folder cannot be written
            to, the disk is full, or the name is too long.
    """
    refuse_unclaimed([path])
    unfinished = path.with_name(f"{MARK}{_here()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        yield unfinished
        # before the rename: a name must never lead to content that is not on the disk yet
        for written in (unfinished, *unfinished.rglob("*")):
            _to_disk(written)
        if unfinished.is_dir() and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        unfinished.replace(path)
    except OSError as error:
        if isinstance(error, ConformaskError):
            raise
        remedy = "give it a shorter name" if error.errno == errno.ENAMETOOLONG else "choose another folder"
        raise OutputError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error
    finally:
        _try_to_remove(unfinished)


@cache
def sweep(folder: Path) -> None:
    """Remove what dead processes of this machine left unfinished in a folder; once per process."""
    for leftover in folder.glob(f"{MARK}{_here()}-*"):
        process = leftover.name.removeprefix(f"{MARK}{_here()}-").split("-")[0]
        if process.isdigit() and not _alive(int(process)):
            _try_to_remove(leftover)


@cache
def _here() -> str:
    """Return a hash of the machine and, on Linux, of the container in which process numbers count."""
    numbers = ""
    with suppress(OSError):
        numbers = os.readlink("/proc/self/ns/pid")
    return hash_of_text(f"{socket.gethostname()}{numbers}")[:8]


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's process
        return True
    return True


def remove(path: Path) -> None:
    """Remove a file, or a folder that counts as one, if it is there.

    Raises:
        OutputError: no record of conformask claims it.
    """
    refuse_unclaimed([path])
    _remove(path)


def remove_claimed(record: Path) -> None:
    """Remove all files that a record claims, the folders that become empty, and the record.

    A removal that was killed can be repeated: the record goes last.
    """
    paths = [record.parent / name for name in claimed_by(record)]
    for path in paths:
        _remove(path)
    for folder in {path.parent for path in paths} - {record.parent}:
        with suppress(OSError):  # not empty: it holds the user's files
            folder.rmdir()
    record.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _try_to_remove(path: Path) -> None:
    with suppress(OSError):
        _remove(path)


def _to_disk(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk, if the system supports that.

    The new name may still be lost in a power cut, which leaves the old file: that is whole, too.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
