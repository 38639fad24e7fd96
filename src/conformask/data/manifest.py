"""The rows of a collection of triplets: from the folders x/, y_hat/ and y/, a manifest.csv, or arrays."""

import csv
import math
import os
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

from conformask.data.decoding import is_image, name_and_suffix, times_of
from conformask.data.formats.format import at_time
from conformask.data.images import check_name, list_images
from conformask.data.rows import TripletRow
from conformask.data.splits import PARTS
from conformask.errors import ImageError, InvalidArgumentError, MissingFileError
from conformask.records.reading import PLAIN, Reading
from conformask.storage.atomic import atomic_write

MANIFEST = "manifest.csv"
REQUIRED = ("x", "y_hat")
SEPARATORS = (",", ";", "\t")
ROLES = ("x", "y_hat", "y", "region")
REPEATS = "repeats"
"""Folder of one or two repeats of each image, NAME_1 and NAME_2, in the place of y/."""
COLUMNS = (*ROLES, "repeat", "name", "group", "category", "weight", "split")
"""Columns of the manifests that conformask writes."""
LABELS = ("groups", "categories", "names")
FIELDS = {
    "names": "name", "groups": "group", "categories": "category", "weights": "weight", "regions": "region",
    "cues": "cues", "repeats": "repeat",
}  # fmt: skip
"""Field of a row, by the name of the column of all rows."""
MOST_COLUMNS = 1000
SHOWN = 5
"""Number of names that an error lists."""


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


def rows_of_arrays(arguments: Mapping[str, Iterable[Any] | None]) -> list[TripletRow]:
    """Make rows from columns named as the arguments of Triplets.from_arrays; names are else numbers."""
    columns = {name: list(values) for name, values in arguments.items() if values is not None}
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


def rows_of_folder(folder: Path, reading: Reading = PLAIN) -> list[TripletRow]:
    """Match folder/x, folder/y_hat, that of the cues and, where they exist, folder/y and region by stem."""
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder")
    roles = [role for role in ROLES if role in REQUIRED or (folder / role).is_dir()]
    for role in roles:
        if not (folder / role).is_dir():
            raise MissingFileError(f"{folder} has no folder {role}/; it needs x/ and y_hat/, or a {MANIFEST}")
    folders = {role: folder / role for role in roles}
    if reading.cues is not None:
        if not (folder / reading.cues).is_dir():
            raise MissingFileError(
                f"{folder} has no folder {reading.cues}/, which the score needs: one map for each "
                "image, in a file of its name"
            )
        folders["cues"] = folder / reading.cues
    rows = rows_of_folders(folders, reading)
    if "y" not in folders and (folder / REPEATS).is_dir():
        return _with_repeats(rows, folder / REPEATS, reading)
    return rows


def with_labels(rows: list[TripletRow], folder: Path, reading: Reading) -> list[TripletRow]:
    """Return the rows with the labels of their objects, folder/LABELS/y_hat/NAME and y/NAME.

    Labels of y are left out where there is no folder of them.

    Raises:
        MissingFileError: there is no folder of labels of y_hat, or no file of the name of an image.
    """
    if reading.objects is None or reading.components_above is not None:
        return rows
    labelled = folder / reading.objects
    if not (labelled / "y_hat").is_dir():
        raise MissingFileError(
            f"{labelled / 'y_hat'} is not a folder: give labels of the objects of each y_hat, in a file of "
            f"its name (and in {labelled / 'y'} those of y), or components:0.5 for --objects"
        )
    files = {role: by_stem(labelled / role) for role in ("y_hat", "y") if (labelled / role).is_dir()}
    for role, of_role in files.items():
        missing = [row.name for row in rows if row.name not in of_role]
        if missing:
            raise MissingFileError(
                f"{labelled / role} has no labels of {', '.join(missing[:SHOWN])}: add them"
            )
    y = files.get("y", {})
    return [replace(row, labels=files["y_hat"][row.name], y_labels=y.get(row.name)) for row in rows]


def _with_repeats(rows: list[TripletRow], folder: Path, reading: Reading) -> list[TripletRow]:
    """Return the rows with the repeats of each: in a folder NAME_1 and NAME_2, or NAME_1 alone for all.

    A file NAME with two time points holds both.

    Raises:
        MissingFileError: one of them is missing, or there is one of no image.
        ImageError: a file NAME has another number of time points.
    """
    files = by_stem(folder)
    for row in rows:
        if (path := files.pop(row.name, None)) is not None:
            files |= _repeats_in(path, row.name, reading)
    two = any(f"{row.name}_2" in files for row in rows)
    needed = [f"{row.name}_{place}" for row in rows for place in (1, 2)[: 1 + two]]
    missing, others = set(needed) - set(files), set(files) - set(needed)
    if missing or others:
        listed = ", ".join(sorted(missing or others)[:SHOWN])
        what = "no file of the name" if missing else "files of no image:"
        raise MissingFileError(
            f"{folder} has {what} {listed}; give NAME_1 and NAME_2 of each image, NAME_1 alone of each, or "
            "files NAME with two time points"
        )
    return [
        replace(row, y=files[f"{row.name}_1"], repeat=files.get(f"{row.name}_2"), noisy=True) for row in rows
    ]


def _repeats_in(path: Path, name: str, reading: Reading) -> dict[str, Path]:
    """Return the two time points of a file as NAME_1 and NAME_2.

    Raises:
        ImageError: it has another number of them.
    """
    count = times_of(path, reading)
    if count != 2:
        raise ImageError(
            f"{path} has {count or 'no'} time points: give a file with two, the repeats, or one repeat in a "
            f"file named {name}_1"
        )
    return {f"{name}_{place}": path.with_name(f"{path.name}#t={place - 1}") for place in (1, 2)}


def rows_of_folders(folders: Mapping[str, Path], reading: Reading = PLAIN) -> list[TripletRow]:
    """Match the files of folders, by role and x first, by stem.

    Each time point of a file is a row, and the file its group; a region without time applies to all of them.
    """
    for folder in folders.values():
        if not folder.is_dir():
            raise MissingFileError(f"{folder} is not a folder")
    files = {role: by_stem(folder) for role, folder in folders.items()}
    for role in list(files)[1:]:
        _check_partners(folders["x"], files["x"], folders[role], files[role])
        _check_partners(folders[role], files[role], folders["x"], files["x"])
    return [
        row
        for stem in files["x"]
        for row in _rows_of(stem, {role: of_role[stem] for role, of_role in files.items()}, reading)
    ]


def write_manifest(path: Path, rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Write a manifest of rows with these columns, whole or not at all."""
    with atomic_write(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _rows_of(stem: str, files: Mapping[str, Path], reading: Reading) -> Iterator[TripletRow]:
    """Yield one row, or one for each time point."""
    times = {role: times_of(path, reading) for role, path in files.items()}
    count = times["y_hat"]
    if count is None:
        yield TripletRow(
            stem, files["x"], files["y_hat"], files.get("y"),
            region=files.get("region"), cues=files.get("cues"),
        )  # fmt: skip
        return
    for role, path in files.items():
        if times[role] != count and not (role == "region" and times[role] is None):
            raise ImageError(
                f"{path} has {times[role] or 'no'} time points, but {files['y_hat']} has {count}: they "
                "must agree"
            )
    for time in range(count):
        points = {
            role: path if times[role] is None else path.with_name(f"{path.name}#t={time}")
            for role, path in files.items()
        }
        yield TripletRow(
            f"{stem}_t{time:03d}",
            points["x"],
            points["y_hat"],
            points.get("y"),
            stem,
            region=points.get("region"),
            cues=points.get("cues"),
        )


def by_stem(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by their names without suffix, sorted.

    Raises:
        ImageError: two have the same.
    """
    files: dict[str, Path] = {}
    for path in list_images(folder):
        stem, _ = name_and_suffix(path)
        if stem in files:
            raise ImageError(f"{path} and {files[stem].name} have the same stem; keep one of them")
        files[stem] = path
    return files


def _check_partners(
    folder: Path, files: Mapping[str, Path], other: Path, partners: Mapping[str, Path]
) -> None:
    unmatched = [path.name for stem, path in files.items() if stem not in partners]
    if unmatched:
        more = f" and {len(unmatched) - SHOWN} more" if len(unmatched) > SHOWN else ""
        raise MissingFileError(
            f"{folder}: {', '.join(unmatched[:SHOWN])}{more} have no partner of the same name in {other}; "
            "add the missing files or remove these"
        )


def rows_of_manifest(path: Path, cues: str | None = None) -> list[TripletRow]:
    """Read and check every line of a manifest, as an editor or Excel saves it; `cues` names their column.

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
        rows = list(_parsed(path, reader, cues))
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


def _parsed(path: Path, reader: "csv.DictReader[str]", cues: str | None) -> Iterator[TripletRow]:
    names: set[str] = set()
    for line in reader:
        where = f"{path} line {reader.line_num}"
        if None in line:
            raise InvalidArgumentError(
                f"{where}: more cells than line 1 has columns; put cells that contain the separator in "
                "quotation marks"
            )
        cells = {key: (value or "").strip() for key, value in line.items() if key}
        # Excel writes semicolons where a comma is the decimal sign
        if "weight" in cells and reader.reader.dialect.delimiter != ",":
            cells["weight"] = cells["weight"].replace(",", ".")
        row = _parsed_line(path.parent, cells, where, cues)
        _check_new(row.name, names, where)
        yield row


def _parsed_line(folder: Path, line: Mapping[str, str], where: str, cues: str | None) -> TripletRow:
    x, y_hat = (_file(folder, line, role, where) for role in REQUIRED)
    name = line.get("name") or name_and_suffix(y_hat)[0]
    check_name(name, where)
    y, repeat = (_file(folder, line, role, where) if line.get(role) else None for role in ("y", "repeat"))
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
