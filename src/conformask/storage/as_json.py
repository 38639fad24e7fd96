"""Records as JSON: infinities are strings, NaN is null; records of a newer conformask are refused."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from conformask.errors import MismatchError, failure_of_system
from conformask.storage.atomic import atomic_write, existing
from conformask.storage.claims import claimed_by, refuse_unclaimed
from conformask.storage.hashes import hash_of_text

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


def claim(path: Path, record: Mapping[str, Json], files: Iterable[str]) -> None:
    """Write a record that claims files, relative to its folder, before the first of them is written.

    Existing files that the previous record claimed stay claimed. "finished": False in the record says that
    not all of the files exist yet.

    Raises:
        OutputError: something lies there that no record of conformask claims.
    """
    names = dict.fromkeys(files)
    refuse_unclaimed([path, *(path.parent / name for name in names)])
    names |= dict.fromkeys(name for name in claimed_by(path) if (path.parent / name).exists())
    write_json(path, {**record, "files": list(names)})


def refuse_unfinished(path: Path, record: Mapping[str, Json]) -> None:
    """Raise for a record that says that not all of its files exist.

    Raises:
        MismatchError: the record is unfinished.
    """
    if record.get("finished") is False:
        raise MismatchError(f"{path.parent} is not finished: repeat the command that writes it")


def read_json(path: Path, needed: Iterable[str] = ()) -> dict[str, Any]:
    """Read a record that write_json wrote.

    Raises:
        MissingFileError: there is no such file.
        MismatchError: the file is damaged, lacks a needed key, or is of a newer schema.
    """
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
    """Convert a value to JSON types: lists for tuples and arrays, objects for records, null for NaN."""
    if is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [to_jsonable(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def hash_of(value: Json) -> str:
    """Return the SHA-256 of a value as JSON, whatever the order of its keys."""
    return hash_of_text(json.dumps(to_jsonable(value), sort_keys=True))


def number(value: float | str | None) -> float:
    """Return a number that JSON may hold as the string "inf", or NaN as null."""
    return math.nan if value is None else float(value)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
