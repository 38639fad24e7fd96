"""Files and folders: written wholly or not at all, by one process at a time, and only over our own.

Claims: conformask removes or replaces a file only if one of its own records claims it by name.

A record is a JSON file that begins as write_json begins it. It claims itself, the names that it lists under
"files" and "replaced", relative to its folder, and those that belong to every record of its name (BESIDE). A
page, picture or model that stands alone says in its first bytes who made it (SIGNATURES), and thereby claims
itself.

Files that appear wholly or not at all; remnants of killed processes are removed.

A file is on the disk before it gets its name, so that even a power cut leaves the old or the new one.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from conformask.background import main_process
from conformask.errors import ConformaskError, MissingFileError, OutputError, warn

if TYPE_CHECKING:
    from filelock import FileLock

OWN_NAME = ".conformask"
"""Beginning of the names of unfinished files and of locks."""
RECORD = re.compile(rb'\s*{\s*"schema": \d+,\s*"conformask": "')
"""Pattern of the beginning of a record."""
SVG_SIGNATURE = "<!-- conformask -->"
"""The first line of an SVG file that stands alone."""
SIGNATURES = (
    SVG_SIGNATURE.encode(),
    b'<meta name="generator" content="conformask',  # HTML
    b"Software\0conformask",  # PNG
    b"\x12\x0aconformask",  # ONNX
)
BEGINNING = 2048
"""Number of bytes at the beginning of a file that may hold its signature."""
LISTS = ("files", "replaced")
"""Keys of a record under which it lists names."""
BESIDE = {
    "training.json": ("metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.safetensors"),
    "scorer.json": ("scorer.safetensors", "selection.npz", "looks.npz"),
    "predictor.json": ("predictor.safetensors",),
    "calibration.json": ("CARD.md",),
}
"""Files that lie beside each record of a name, whether it lists them or not."""


def refuse_unclaimed(paths: Iterable[Path]) -> None:
    """Raise if something lies at one of these paths that conformask did not write, except an empty folder."""
    claimed = cache(claimed_in)  # a folder is asked once per file in it
    for path in paths:
        refuse_unwritable(path)
        if not os.path.lexists(path):
            continue
        is_empty = path.is_dir() and not path.is_symlink() and not any(path.iterdir())
        if not is_empty and not is_claimed(path, claimed):
            raise OutputError(
                f"{path} is in the way: no record of conformask claims it, so it is neither replaced nor "
                "removed; move it, or choose another folder"
            )


def check_output(path: Path) -> None:
    """Raise, before the work, if a file could not be written here."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder: give the name of a file")
    refuse_unclaimed([path])


def refuse_unwritable(path: Path) -> None:
    """Raise if no file can be made here."""
    folder = next(each for each in path.absolute().parents if os.path.lexists(each))
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        reason = "may not be written to" if folder.is_dir() else "is not a folder"
        raise OutputError(f"cannot write {path}: {folder} {reason}; choose another folder")


def refuse_unclaimed_in(folder: Path) -> None:
    """Raise for a folder that holds something that conformask did not write; hidden files are ignored."""
    with suppress(NotADirectoryError, FileNotFoundError):
        refuse_unclaimed(sorted(path for path in folder.iterdir() if not path.name.startswith(".")))
        return
    refuse_unclaimed([folder])


def places(folder: Path, *records: str) -> list[Path]:
    """Return the paths of records with these names in a folder, and of the files beside each."""
    return [folder / name for record in records for name in (record, *BESIDE.get(record, ()))]


def claimed_in(folder: Path) -> frozenset[str]:
    """Return the names, relative to a folder, that the records in it claim."""
    return frozenset(name for record in folder.glob("*.json") for name in claimed_by(record))


def is_claimed(path: Path, claimed: Callable[[Path], frozenset[str]] = claimed_in) -> bool:
    """Return whether a record claims a file, or a folder that counts as one, such as an OME-Zarr.

    The record lies beside it, or beside its folder.
    """
    if path.name.startswith(OWN_NAME) or _is_signed(path):
        return True
    return any(path.relative_to(above).as_posix() in claimed(above) for above in islice(path.parents, 2))


def claimed_by(record: Path) -> tuple[str, ...]:
    """Return the names, relative to its folder, that a record claims besides its own; () for other files.

    A name that leads out of the folder is ignored: a record that was copied from elsewhere may say anything.
    """
    content: object = None
    with suppress(ValueError, OSError, RecursionError):
        text = record.read_bytes()
        content = json.loads(text) if RECORD.match(text) else None
    if not isinstance(content, dict):
        return ()
    lists = [names for names in map(content.get, LISTS) if isinstance(names, list | dict)]
    listed = [name for names in lists for name in names if isinstance(name, str)]
    return (*BESIDE.get(record.name, ()), *_inside(record.parent, listed))


def _inside(folder: Path, names: Iterable[str]) -> Iterable[str]:
    """Yield the names that lead to files in a folder, and not out of it through a link."""

    @cache
    def holds(parent: PurePath) -> bool:
        return (folder / parent).resolve().is_relative_to(folder.resolve())

    return (name for name in names if PurePath(name).name not in ("", "..") and holds(PurePath(name).parent))


def _is_signed(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        beginning = file.read(BEGINNING)
        return bool(RECORD.match(beginning)) or any(each in beginning for each in SIGNATURES)
    return False


def hash_of_parts(parts: Iterable[bytes]) -> str:
    """Return the SHA-256 of parts one after another, which need not be in memory together."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def hash_of_text(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8."""
    return hash_of_parts([text.encode()])


MARK = f"{OWN_NAME}-"
"""Beginning of the names of unfinished files."""


def existing(path: Path) -> Path:
    """Return the path of a file of a run folder."""
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; is {path.parent} the right folder?")
    return path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it becomes `path`, on failure nothing is left."""
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
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # otherwise it is another user's
    return True


def remove(path: Path) -> None:
    """Remove a file, or a folder that counts as one, if it is there."""
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


LOCK = f"{OWN_NAME}.lock"
OWNER_SUFFIX = "-owner"
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of a file system that cannot lock, such as Lustre or NFS if nobody set it up."""


@contextmanager
def exclusive_folder(folder: Path, name: str | None = None) -> Iterator[None]:
    """Hold a folder's lock; of several processes that Lightning started, only the first takes it.

    With a name, hold the lock of the file with that name in it.

    It may be nested within one thread. If the file system cannot lock, it warns and continues.
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
        owner = "another process"
        with suppress(OSError):
            owner = _owner_file(path).read_text(encoding="utf-8")
        raise OutputError(f"{shown} is being written by {owner}: wait, or choose another") from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise OutputError(f"cannot write {shown}: {error.strerror}; choose another folder") from error
        warn(f"{shown} is on a file system that cannot lock files: let only one process write to it")
        return None
    return lock


def _owner_file(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}{OWNER_SUFFIX}")
