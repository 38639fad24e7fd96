"""Files and records on disk: written wholly or not at all, by one process at a time, and only over our own.

Claims: conformask removes or replaces a file only if one of its own records claims it by name. A record is a
JSON file that begins as write_json begins it. It claims itself, the names that it lists under "files" and
"replaced", relative to its folder, and those that belong to every record of its name (BESIDE). A page,
picture or model that stands alone says in its first bytes who made it (SIGNATURES), and so claims itself.

A file is on the disk before it gets its name, so that even a power cut leaves the old or the new one.
Remnants of killed processes are removed.

Records: JSON checked against the types of fields, arrays without pickle, CSV. A record and its arrays are
replaced as one: a reader sees either all of the old or all of the new. The arrays lie in files named after
their content; the JSON, replaced last, lists the current ones. Its seal and the hashes of the files detect
damage, not malice: whoever can change a file can seal it again.
"""

import csv
import errno
import hashlib
import json
import math
import os
import re
import shutil
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from jaxtyping import AbstractArray

from conformask.background import main_process
from conformask.errors import (
    ConformaskError,
    InvalidArgumentError,
    MismatchError,
    MissingFileError,
    OutputError,
    failure_of_system,
    warn,
)

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
CALIBRATION = "calibration.json"
"""The record of a promise in a run folder."""
BESIDE = {
    "training.json": ("metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.safetensors"),
    "scorer.json": ("scorer.safetensors", "selection.npz", "looks.npz"),
    "predictor.json": ("predictor.safetensors",),
    CALIBRATION: ("CARD.md",),
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
        reason = "may not be written to; allow it, or" if folder.is_dir() else "is not a folder;"
        raise OutputError(f"cannot write {path}: {folder} {reason} choose another folder")


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


Array = np.ndarray[Any, np.dtype[Any]]


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write named arrays to an npz."""
    objects = [name for name, array in arrays.items() if np.asarray(array).dtype.hasobject]
    if objects:
        raise TypeError(f"{objects[0]} holds Python objects, which no record does")
    with atomic_write(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # of newer NumPy, for another keyword


def read_arrays(path: Path) -> dict[str, Array]:
    """Read a file of write_arrays; never unpickles."""
    existing(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # the type depends on where it is damaged
        failure = failure_of_system(error)
        if failure is not None:
            raise MismatchError(f"{path} cannot be read, {failure}") from error
        raise MismatchError(f"{path} is damaged ({error}): copy it again") from error


def numpy_of(image: Any) -> Array:
    """Return a tensor, or what numpy takes, as an array; bfloat16, which numpy lacks, as float32."""
    if not hasattr(image, "detach"):
        return np.asarray(image)
    image = image.detach().cpu()
    return np.asarray(image.float() if str(image.dtype) == "torch.bfloat16" else image)


def hash_of_arrays(arrays: Mapping[str, Array]) -> str:
    """Return the SHA-256 of names, types, shapes and values."""
    return hash_of_parts(
        f"{name}{values.dtype.str}{values.shape}".encode() + np.ascontiguousarray(values).tobytes()
        for name, values in sorted(arrays.items())
    )


FORMULAS = ("=", "+", "-", "@")
"""Beginnings of texts that a spreadsheet runs."""


def as_cell(value: object) -> object:
    """Return a text that a spreadsheet would run behind an apostrophe, and anything else as it is."""
    is_formula = isinstance(value, str) and value.lstrip("'").startswith(FORMULAS)
    return f"'{value}" if is_formula else value


def from_cell(text: str) -> str:
    """Return the text for which `as_cell` gave this one."""
    is_formula = text.startswith("'") and text.lstrip("'").startswith(FORMULAS)
    return text[1:] if is_formula else text


def write_csv(path: Path, rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Write rows with these columns, whole or not at all."""
    with atomic_write(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: as_cell(value) for name, value in row.items()} for row in rows)


Json = Any
"""Value of JSON: None, bool, int, float, str, or lists and string-keyed dicts of these."""
SCHEMA = 2
"""Version of the record format; version 1 is that of conformask 0.1."""


def write_json(path: Path, record: Mapping[str, Json]) -> None:
    """Write a record with the schema and package version; infinities become "inf", NaN null."""
    head = {"schema": SCHEMA, "conformask": version("conformask")}
    text = json.dumps(to_jsonable({**head, **record}), indent=2, allow_nan=False)
    with atomic_write(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8")


def claim(path: Path, record: Mapping[str, Json], files: Iterable[str], *, sealed: bool = False) -> None:
    """Write a record that claims files, relative to its folder, before the first of them is written.

    Existing files that the previous record claimed stay claimed. "finished": False in the record says that
    not all of the files exist yet.
    """
    names = dict.fromkeys(files)
    refuse_unclaimed([path, *(path.parent / name for name in names)])
    names |= dict.fromkeys(name for name in claimed_by(path) if (path.parent / name).exists())
    content = {**record, "files": list(names)}
    write_json(path, content | {"seal": hash_of(content)} if sealed else content)


def refuse_unfinished(path: Path, record: Mapping[str, Json]) -> None:
    """Raise for a record that says that not all of its files exist."""
    if record.get("finished") is False:
        raise MismatchError(f"{path.parent} is not finished: repeat the command that writes it")


def read_json(path: Path, needed: Iterable[str] = ()) -> dict[str, Any]:
    """Read a record that write_json wrote."""
    existing(path)
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
        schema = int(record["schema"])
    except OSError as error:
        raise MismatchError(f"{path} cannot be read, {failure_of_system(error) or error.strerror}") from error
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        where = f" ({error})" if isinstance(error, json.JSONDecodeError) else ""
        raise MismatchError(f"{path} is not a record of conformask{where}: copy it again") from error
    if schema > SCHEMA:
        raise MismatchError(
            f"{path} has schema {schema}, but this version of conformask reads up to {SCHEMA}: upgrade "
            "conformask"
        )
    missing = [key for key in needed if key not in record]
    if missing:
        raise MismatchError(f"{path} lacks {', '.join(missing)}: it is damaged; copy it again")
    return record


def to_jsonable(value: Any) -> Json:
    """Convert a value to JSON types: lists for tuples, sets and arrays, objects for records, null for NaN."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: vars(value)[field.name] for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, list | tuple | np.ndarray):
        return [to_jsonable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def vars_but(value: object, *left_out: str) -> dict[str, Any]:
    """Return the fields of a record by name, without some."""
    return {name: field for name, field in vars(value).items() if name not in left_out}


def hash_of(value: Json) -> str:
    """Return the SHA-256 of a value as JSON, whatever the order of its keys."""
    return hash_of_text(json.dumps(to_jsonable(value), sort_keys=True))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


T = TypeVar("T")
SHOWN = 60
"""Number of characters of a wrong value that a message shows."""


def from_dict(kind: type[T], values: Mapping[str, Any], path: Path | str) -> T:
    """Make a dataclass from the content of a file; values without a field are ignored."""
    hints, values_given = get_type_hints(kind), {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in values:
            try:
                values_given[field.name] = value_as(hints[field.name], values[field.name], path)
            except MismatchError:
                raise
            except (TypeError, ValueError, OverflowError) as error:
                shown = repr(values[field.name])[:SHOWN]
                raise MismatchError(
                    f"{path} contains {shown} for {field.name}: it is damaged; copy it again"
                ) from error
        elif field.default is MISSING and field.default_factory is MISSING:
            raise MismatchError(f"{path} lacks {field.name}: it is damaged; copy it again")
    try:
        return kind(**values_given)
    except InvalidArgumentError as error:
        raise MismatchError(f"{path}: {error}") from error


def value_as(hint: Any, value: Any, path: Path | str) -> Any:
    """Make a value of a type from JSON; of several dataclasses, the one whose `kind` it states."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        return _one_of([kind for kind in arguments if kind is not NoneType], value, path)
    if origin is Literal:
        return arguments[arguments.index(value)]
    if hint is float:  # JSON holds infinities as strings, and NaN as null
        return math.nan if value is None else float(_expected(value, (int, float, str)))
    if origin is tuple:
        items = _expected(value, list)
        kinds = [arguments[0]] * len(items) if Ellipsis in arguments else arguments
        return tuple(value_as(kind, item, path) for kind, item in zip(kinds, items, strict=True))
    if origin in (list, set):
        return origin(value_as(arguments[0], item, path) for item in _expected(value, list))
    if origin in (dict, Mapping):
        return {key: value_as(arguments[1], item, path) for key, item in _expected(value, dict).items()}
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return _expected(np.array(value, np.float64), hint)
    if is_dataclass(hint) and not isinstance(value, hint):  # type: ignore[arg-type]
        return from_dict(hint, _expected(value, dict), path)  # type: ignore[arg-type]
    return _expected(value, origin or hint)


def _one_of(kinds: list[Any], value: Any, path: Path | str) -> Any:
    """Return the value as the first of these types that it fits."""
    if value is None:
        return None
    if len(kinds) > 1 and all(map(is_dataclass, kinds)):
        named = _expected(value, dict).get("kind")
        kinds = [kind for kind in kinds if kind.kind == named]
        if not kinds:
            raise MismatchError(
                f"{path} has the kind {named!r}, which is of a later conformask: upgrade conformask"
            )
    for kind in kinds[:-1]:
        with suppress(TypeError, ValueError, OverflowError):
            return value_as(kind, value, path)
    return value_as(kinds[-1], value, path)


def _expected(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError
    return value


TRIES = 5
"""Number of times that a reader tries again while a writer replaces the files."""
UNSEALED = ("schema", "conformask", "seal")


@dataclass
class State:
    """A published record continued by one process at a time, so that no other process's changes are lost."""

    seal: str | None = None
    """Seal of the record that was read or written last; None for a new one."""

    def publish(
        self, path: Path, record: Mapping[str, Json], arrays: Mapping[str, Mapping[str, Array]]
    ) -> None:
        """Write the record, as publish does."""
        refuse_unclaimed([path])
        if path.is_file() and read_json(path).get("seal") != self.seal:
            raise OutputError(
                f"{path} is not the state that this one continues; perhaps another process has changed it "
                "in the meantime: load it and add the images again"
            )
        self.seal = publish(path, record, arrays)

    def read(self, path: Path, stems: Iterable[str]) -> "SealedRecord":
        """Read the record, as read_published does."""
        published = read_published(path, stems)
        self.seal = str(published.record["seal"])
        return published


@dataclass(frozen=True)
class SealedRecord:
    """A record and its arrays, as publish wrote them."""

    record: Mapping[str, Json]
    arrays: Mapping[str, Mapping[str, Array]]


def publish(
    path: Path,
    record: Mapping[str, Json],
    arrays: Mapping[str, Mapping[str, Array]],
    sealed: Iterable[str] = (),
    outdated: Path | None = None,
) -> str:
    """Write a record as JSON, and its arrays beside it; return its seal.

    Args:
        path: the path of the JSON.
        record: the content of the JSON.
        arrays: the content of each npz, by its stem.
        sealed: names of existing files that belong to the record.
        outdated: a file that is no longer true, removed before the record appears.
    """
    named = {f"{stem}-{hash_of_arrays(content)[:8]}.npz": content for stem, content in arrays.items()}
    refuse_unclaimed([path])
    claimed = claimed_by(path)
    for name, content in named.items():
        if not _holds(path.parent / name, content):
            write_arrays(path.parent / name, content)
    files = {name: path_hash(path.parent / name) for name in (*named, *sealed)}
    of_arrays = re.compile(rf"({'|'.join(arrays)})-[0-9a-f]{{8}}\.npz")
    replaced = [
        name
        for name in claimed
        if of_arrays.fullmatch(name) and name not in files and (path.parent / name).is_file()
    ]
    content = to_jsonable({**record, "files": files, "replaced": replaced})
    if outdated is not None:
        remove(outdated)
    seal = hash_of(content)
    write_json(path, {**content, "seal": seal})
    for name in replaced:
        with suppress(OSError):
            (path.parent / name).unlink()
    return seal


def read_published(path: Path, stems: Iterable[str]) -> SealedRecord:
    """Read a record and its arrays, as publish wrote them."""
    for _ in range(TRIES):
        record = read_json(path)
        try:
            verify(path, record)
            arrays = {}
            for stem in stems:
                named = (name for name in record["files"] if name.startswith(f"{stem}-"))
                arrays[stem] = read_arrays(path.parent / next(named, f"{stem}.npz"))
            return SealedRecord(record, arrays)
        except (MismatchError, MissingFileError):
            if record == read_json(path):  # else a writer replaced the files in between
                raise
    raise MismatchError(f"{path} is being rewritten all the time: read it when writing has finished")


def read_sealed(path: Path, needed: Iterable[str] = ()) -> dict[str, Any]:
    """Read a record without arrays, refused where it was changed; of early ones, without a seal, it warns."""
    record = read_json(path, needed)
    if "seal" in record:
        verify(path, record)
    else:
        warn(
            f"{path} was written without a seal, by an early version of conformask, so it cannot be checked "
            "whether it was changed; make it again to seal it"
        )
    return record


def verify(path: Path, record: Mapping[str, Json]) -> None:
    """Raise for a record that was changed, or one of whose files was changed or replaced by another's."""
    content = {key: value for key, value in record.items() if key not in UNSEALED}
    if record.get("seal") != hash_of(content):
        raise MismatchError(not_as_written(path))
    if isinstance(record.get("files"), dict):  # a claim only names them
        verify_files(path.parent, record["files"])


def verify_files(folder: Path, hashes: Mapping[str, Json]) -> None:
    """Raise for files whose hashes are not these."""
    for name, expected in hashes.items():
        found = None
        with suppress(FileNotFoundError):  # a writer may remove it at any moment
            found = path_hash(folder / name)
        if found != expected:
            raise MismatchError(not_as_written(folder / name))


def path_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files in a folder and their names."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return hash_of([[str(file.relative_to(path)), path_hash(file)] for file in files])
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def not_as_written(path: Path) -> str:
    """Return the message about a file that does not match the record beside it."""
    return (
        f"{path} is damaged, or is not the file that was written with the others: do not rely on it. Create "
        "it again, or copy the whole folder again"
    )


def _holds(path: Path, content: Mapping[str, Array]) -> bool:
    """Return whether a file with exactly these arrays exists, such as one of a killed process."""
    with suppress(MismatchError, MissingFileError, OSError):
        return hash_of_arrays(read_arrays(path)) == hash_of_arrays(content)
    return False
