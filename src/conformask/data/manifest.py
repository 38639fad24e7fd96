"""The rows of a collection of triplets: from a manifest.csv, or arrays."""

import csv
import math
import os
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

from conformask.data.decoding import is_image, name_and_suffix
from conformask.data.formats.format import at_time
from conformask.data.images import check_name
from conformask.data.rows import TripletRow
from conformask.data.splits import PARTS
from conformask.errors import InvalidArgumentError, MissingFileError
from conformask.storage.as_arrays import Array
from conformask.storage.as_csv import from_cell

MANIFEST = "manifest.csv"
REQUIRED = ("x", "y_hat")
SEPARATORS = (",", ";", "\t")
ROLES = ("x", "y_hat", "y", "region")
COLUMNS = (*ROLES, "repeat", "name", "group", "category", "weight", "split")
"""Columns of the manifests that conformask writes."""
LABELS = ("groups", "categories", "names")
FIELDS = {
    "names": "name", "groups": "group", "categories": "category", "weights": "weight", "regions": "region",
    "cues": "cues", "repeats": "repeat",
}  # fmt: skip
"""Field of a row, by the name of the column of all rows."""
MOST_COLUMNS = 1000


def check_rows(rows: Sequence[TripletRow]) -> None:
    """Raise for bad or repeated names, and weights that are not finite and above 0."""
    names: set[str] = set()
    for index, row in enumerate(rows):
        check_name(row.name, f"triplet {index}")
        _check_new(row.name, names, f"triplet {index}")
        if row.weight is not None:
            parse_weight(row.weight, f"triplet {row.name!r}")


def parse_weight(value: str | float, where: str) -> float:
    """Return a finite weight above 0, or raise InvalidArgumentError naming `where`."""
    try:
        weight = float(value)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise InvalidArgumentError(f"{where}: weight is {value!r}; give a finite number above 0")
    return weight


def _check_new(name: str, names: set[str], where: str) -> None:
    if name in names:
        raise InvalidArgumentError(
            f"{where}: the name {name!r} is already used; give every triplet its own name"
        )
    names.add(name)


def rows_of_arrays(
    arguments: Mapping[str, Iterable[Any] | None], segment: Callable[[Array], Array] | None = None
) -> list[TripletRow]:
    """Make rows from columns named as the arguments of Triplets.from_arrays; names are else numbers.

    `segment` makes the labels of each y_hat and y.
    """
    columns = {name: list(values) for name, values in arguments.items() if values is not None}
    if segment is not None:
        for name, role in (("labels", "y_hat"), ("y_labels", "y")):
            columns |= {name: list(map(segment, columns[role]))} if role in columns else {}
    columns |= {name: list(map(str, columns[name])) for name in LABELS if name in columns}
    count = len(columns["x"])
    if "repeats" in columns and "y" not in columns:
        columns |= {"y": columns.pop("repeats"), "noisy": [True] * count}
    _check_lengths(columns, count)
    columns.setdefault("names", [f"{index:05d}" for index in range(count)])
    fields = [FIELDS.get(name, name) for name in columns]
    rows = [TripletRow(**dict(zip(fields, row, strict=True))) for row in zip(*columns.values(), strict=True)]
    check_rows(rows)
    return rows


def _check_lengths(columns: Mapping[str, Sequence[Any]], count: int) -> None:
    if count == 0:
        raise InvalidArgumentError("x is empty; give at least one image")
    for name, values in columns.items():
        if len(values) != count:
            raise InvalidArgumentError(
                f"{name} has {len(values)} items but x has {count}; give one for each image"
            )


def rows_of_manifest(path: Path, cues: str | None = None, objects: str | None = None) -> list[TripletRow]:
    """Read and check every line of a manifest, as an editor or Excel saves it; `cues` names their column.

    Columns OBJECTS/y_hat and OBJECTS/y, where there are any, hold the labels of objects.

    Raises:
        MissingFileError: the manifest or a file that it names does not exist.
        InvalidArgumentError: a column is missing or a value is not allowed; names the line.
    """
    if not os.path.isfile(path):
        raise MissingFileError(f"{path} does not exist")
    text = _text(path)
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    try:
        reader.fieldnames = [column.strip() for column in reader.fieldnames or ()]
        _check_columns(path, reader.fieldnames, cues)
        rows = list(_parsed(path, reader, cues, objects))
    except csv.Error as error:
        raise InvalidArgumentError(
            f"{path} line {reader.reader.line_num}: {error}; look for an unclosed quotation mark"
        ) from error
    if not rows:
        raise InvalidArgumentError(f"{path} lists no triplets; write one line per triplet")
    return rows


def _text(path: Path) -> str:
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding)
        text_before, null, _ = text.partition("\0")
    except UnicodeDecodeError as error:
        text_before, null = error.object[: error.start].decode(encoding, "replace"), "other bytes"
    if null:
        line = len(f"{text_before}.".splitlines())
        raise InvalidArgumentError(f'{path} line {line} is not text in UTF-8; save it as "CSV UTF-8"')
    return text


def _separator(text: str) -> str:
    """Return the separator that gives the first line the most known columns."""
    first = StringIO(text, newline="").readline()
    columns = {sign: {cell.strip('" \r\n') for cell in first.split(sign)} for sign in SEPARATORS}
    return max(SEPARATORS, key=lambda sign: len(columns[sign].intersection(COLUMNS)))


def _check_columns(path: Path, columns: Sequence[str], cues: str | None) -> None:
    if len(columns) > MOST_COLUMNS:
        raise InvalidArgumentError(
            f"{path} line 1 has {len(columns):,} columns, but only {len(COLUMNS)} of them have known names: "
            "is it a manifest?"
        )
    required = REQUIRED if cues is None else (*REQUIRED, cues)
    missing = [column for column in required if column not in columns]
    if missing:
        raise InvalidArgumentError(
            f"{path} line 1: no column {missing[0]!r} among {list(columns)}; the allowed columns are "
            f"{list(COLUMNS)}"
        )
    for column in columns:
        similar = get_close_matches(column.lower(), COLUMNS, n=1, cutoff=0.8)
        if column not in (*COLUMNS, cues) and similar:
            raise InvalidArgumentError(
                f"{path} line 1: unknown column {column!r}; did you mean {similar[0]!r}?"
            )
        if column and columns.count(column) > 1:
            raise InvalidArgumentError(f"{path} line 1: two columns {column!r}; keep one of them")


def _parsed(
    path: Path, reader: "csv.DictReader[str]", cues: str | None, objects: str | None
) -> Iterator[TripletRow]:
    names: set[str] = set()
    for line in reader:
        where = f"{path} line {reader.line_num}"
        if None in line:
            raise InvalidArgumentError(
                f"{where}: more cells than line 1 has columns; put cells that contain the separator in "
                "quotation marks"
            )
        cells = {key: from_cell((value or "").strip()) for key, value in line.items() if key}
        # Excel writes semicolons where a comma is the decimal sign
        if "weight" in cells and reader.reader.dialect.delimiter != ",":
            cells["weight"] = cells["weight"].replace(",", ".")
        row = _parsed_line(path.parent, cells, where, cues, objects)
        _check_new(row.name, names, where)
        yield row


def _parsed_line(
    folder: Path, line: Mapping[str, str], where: str, cues: str | None, objects: str | None
) -> TripletRow:
    x, y_hat = (_file(folder, line, role, where) for role in REQUIRED)
    name = line.get("name") or name_and_suffix(y_hat)[0]
    check_name(name, where)
    y, repeat = (_file(folder, line, role, where) if line.get(role) else None for role in ("y", "repeat"))
    labels, y_labels = (
        _file(folder, line, column, where) if column in line else None
        for column in (f"{objects}/y_hat", f"{objects}/y")
    )
    return TripletRow(
        name,
        x,
        y_hat,
        y or repeat,
        line.get("group") or None,
        _filled(line, "category", where),
        parse_weight(line["weight"], where) if "weight" in line else None,
        _part(line, where),
        _file(folder, line, "region", where) if "region" in line else None,
        None if cues is None else _file(folder, line, cues, where),
        repeat if y else None,
        noisy=repeat is not None,
        labels=labels,
        y_labels=y_labels,
    )


def _file(folder: Path, line: Mapping[str, str], role: str, where: str) -> Path:
    if not line[role]:
        raise InvalidArgumentError(f"{where}: {role} is empty; give the path of an image")
    path = folder / line[role]
    file, _ = at_time(path)
    if not (os.path.isfile(file) or is_image(file)):
        raise MissingFileError(f"{where}: {role} names {path}, which does not exist")
    return path


def _filled(line: Mapping[str, str], column: str, where: str) -> str | None:
    if column in line and not line[column]:
        raise InvalidArgumentError(f"{where}: {column} is empty; fill it on every line or drop the column")
    return line.get(column)


def _part(line: Mapping[str, str], where: str) -> str | None:
    part = line.get("split")
    if part is not None and part not in PARTS:
        raise InvalidArgumentError(f"{where}: split is {part!r}; choose from {list(PARTS)}")
    return part
