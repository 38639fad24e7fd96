"""The rows of a collection of triplets: where images lie, their origin, and the part that each is in."""

import csv
import math
import os
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from io import StringIO
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, Literal, get_args

from conformask.arrays import Array, Triplet, TripletOf
from conformask.errors import (
    ImageError,
    InvalidArgumentError,
    MismatchError,
    MissingFileError,
    chosen,
    verb,
)
from conformask.images.formats import Header, at_time
from conformask.images.layers import (
    LAYERS,
    SHOWN,
    LayerKind,
    OpenedLayer,
    as_read,
    check_ground,
    check_places,
)
from conformask.images.read import (
    Raster,
    UnreadImage,
    by_stem,
    check_name,
    header_of_image,
    image_and_header,
    image_hash,
    is_image,
    name_and_suffix,
    open_raster,
    times_of,
)
from conformask.promises.promise import Promise
from conformask.records import names
from conformask.records.names import Guarantee, Split
from conformask.records.numbers import plural
from conformask.records.reading import PLAIN, Network, Reading, Reference
from conformask.records.record import (
    Json,
    claim,
    from_cell,
    from_dict,
    hash_of,
    hash_of_text,
    read_json,
    write_json,
)
from conformask.records.upgrade import with_network

Role = Literal["x", "y_hat", "y"]


OpenedTriplet = TripletOf[Raster, OpenedLayer]
"""A triplet to be read window by window."""


@dataclass(frozen=True, eq=False)
class TripletRow(TripletOf[UnreadImage, UnreadImage]):
    """One triplet, not yet read: the files or arrays of its images and layers, its facts and part.

    Whatever reads a file, or only its header, raises an ImageError that names it if that fails.
    """

    part: str | None = None
    repeats: Literal[0, 1, 2] = 0
    """The number of acquisitions with noise in the place of the truth."""

    def reference(self, reading: Reading) -> Reference:
        """Return what y is."""
        return Reference(self.repeats, reading.noise_model if self.repeats == 1 else None)

    def read(self, reading: Reading) -> Triplet:
        """Read the triplet."""
        reading = self.settled(reading)
        (x, x_header), (y_hat, y_hat_header) = self._image("x", reading), self._image("y_hat", reading)
        y, y_header = (None, None) if self.y is None else self._image("y", reading)
        headers, geometry = (x_header, y_hat_header, y_header), y_hat_header.geometry
        clipped = max(header.clipped for header in headers if header is not None)
        known = geometry, y_hat_header.patient, clipped, self.reference(reading)
        triplet = Triplet(self.name, x, y_hat, y, {}, self.facts, *known)
        for kind in as_read():
            if kind.is_known(self, reading):
                triplet = kind.add(self, triplet, reading)
        y = triplet.y
        if y is not None and y.shape != y_hat.shape:
            raise ImageError(
                f"triplet {self.name!r}: y has shape {y.shape}, but y_hat has {y_hat.shape} (C, *space); "
                "they must be the same"
            )
        if x.ndim != y_hat.ndim:
            raise ImageError(
                f"triplet {self.name!r}: x has shape {x.shape}, but y_hat has {y_hat.shape} (C, *space); one "
                "is a volume, the other is not"
            )
        check_places(self.name, {"x": x_header, "y": y_header}, y_hat.shape[1:], geometry)
        check_ground(self.name, {"x": x_header, "y": y_header}, y_hat_header)
        return triplet

    def image(self, role: str) -> UnreadImage | None:
        """Return the file or array of x, y_hat, y or a layer; None where there is none."""
        return vars(self)[role] if role in ROLES else self.layers.get(role)

    def header(self, role: Role, reading: Reading) -> Header:
        """Return the header of an image, which is not decoded."""
        return header_of_image(self._given(role), reading, self.text(role))

    def settled(self, reading: Reading) -> Reading:
        """Return the reading with the range of this image, where each has its own: an image is decoded."""
        role = reading.source_of_range
        if role is None:
            return reading
        return reading.settled(open_raster(self._given(role), reading.of(role), self.text(role)).own_range())

    def raster(self, role: Role, reading: Reading) -> Raster:
        """Open an image to be read window by window; its header is read now, and what `settled` reads."""
        return open_raster(self._given(role), self.settled(reading).of(role), self.text(role))

    def opened(self, reading: Reading) -> OpenedTriplet:
        """Open the triplet to be read window by window, without y where that is noisy."""
        reading = self.settled(reading)
        has_truth = self.y is not None and not self.reference(reading).is_noisy
        y = self.raster("y", reading) if has_truth else None
        x, y_hat = self.raster("x", reading), self.raster("y_hat", reading)
        check_ground(self.name, {"x": x.header, "y": None if y is None else y.header}, y_hat.header)
        layers = {name: LAYERS[name].opened(self, reading) for name in LAYERS}
        known = {name: layer for name, layer in layers.items() if layer is not None}
        return TripletOf(self.name, x, y_hat, y, known, self.facts)

    def source(self, reading: Reading) -> str:
        """Return a hash of the files or arrays and of how they are read."""
        layers = (self.layers[kind.name] for kind in as_read() if kind.name in self.layers)
        hashes = [
            None if image is None else image_hash(image) for image in (self.x, self.y_hat, self.y, *layers)
        ]
        facts = [self.facts.get(name) for name in ("category", "weight")]
        return hash_of([*reading.facts, *facts, *hashes])[:16]

    def text(self, role: str) -> str:
        """Return the words for an image or a layer in messages."""
        return f"{role} of triplet {self.name!r}"

    def _given(self, role: Role) -> UnreadImage:
        image = self.image(role)
        assert image is not None
        return image

    def _image(self, role: Role, reading: Reading) -> tuple[Array, Header]:
        return image_and_header(self._given(role), reading.of(role), self.text(role))


def groups_of(rows: Sequence[TripletRow], where: str, reading: Reading) -> list[str]:
    """Return the group of each row, found in its name or files.

    Args:
        where: a regular expression whose one group, in brackets, is found in every name; or "patient", the
            hash of the patient that the file of y_hat names or, where it names none, the file of x.
        reading: how files are read.

    Raises:
        InvalidArgumentError: `where` is neither, or names or files do not give a group.
    """
    if where == "patient":
        groups = [row.header("y_hat", reading).patient or row.header("x", reading).patient for row in rows]
    else:
        pattern = _pattern(where)
        matches = [pattern.search(row.name) for row in rows]
        groups = [match and match[1] for match in matches]
    found = [group for group in groups if group]
    if len(found) == len(rows):
        return found
    first, *rest = (row.name for row, group in zip(rows, groups, strict=True) if not group)
    which = repr(first) + (f" and {plural(len(rest), 'other')}" if rest else "")
    if where == "patient":
        raise InvalidArgumentError(
            f"the files of x and y_hat of {which} name no patient: group_from patient reads the PatientID of "
            "DICOM files; give a regular expression for the names instead, such as sub-([^_]+)"
        )
    raise InvalidArgumentError(f"group_from {where!r} does not match the name {which}")


def _pattern(where: str) -> re.Pattern[str]:
    """Return a regular expression with one group in brackets."""
    try:
        pattern = re.compile(where)
    except re.error as error:
        raise InvalidArgumentError(f"group_from {where!r} is not a regular expression: {error}") from error
    if pattern.groups != 1:
        raise InvalidArgumentError(
            f"group_from {where!r} has {pattern.groups} groups in brackets; give exactly one, such as "
            "sub-([^_]+)"
        )
    return pattern


PARTS, FRACTIONS = tuple(names.PARTS), tuple(names.PARTS.values())
SplitUnit = Literal[Split, "paper"]


def uniform(*keys: object) -> float:
    """Return a number in [0, 1) drawn by hash of the keys, the same on every machine."""
    text = "\0".join(map(str, keys))
    return int(hash_of_text(text)[:16], 16) / 2**64


def part_of(group: str, seed: int = 0) -> str:
    """Return the part of a whole group: train, selection, calibration or test at .55/.10/.20/.15."""
    return _part_at(uniform(seed, group), PARTS, FRACTIONS)


def parts_of(
    groups: Sequence[str],
    seed: int,
    fractions: Sequence[float] | None,
    guarantee: Guarantee | None,
    confidence: float | None,
) -> tuple[str, ...]:
    """Return the part of each image, given its group; see `Triplets.split`."""
    if fractions is None and guarantee is None:
        return tuple(part_of(group, seed) for group in groups)
    promise = Promise(guarantee or "marginal", confidence)
    calibration = 1 if guarantee is None else promise.smallest_calibration_set(None, None)
    part_of_group = _assigned(groups, fractions or FRACTIONS, seed, calibration, promise.by_group)
    return tuple(part_of_group[group] for group in groups)


def _assigned(
    groups: Sequence[str], fractions: Sequence[float], seed: int, calibration: int, by_group: bool
) -> dict[str, str]:
    """Assign groups to parts in the order of a hash, in numbers as near the fractions as possible.

    The calibration part comes first, with at least this many groups if `by_group`, else images.
    """
    if len(fractions) != len(PARTS) or min(fractions) <= 0 or not math.isclose(sum(fractions), 1):
        raise InvalidArgumentError(
            f"fractions {fractions}: give positive fractions for {', '.join(PARTS)} that sum to 1"
        )
    images = Counter(groups)
    in_order = sorted(images, key=lambda group: uniform(seed, "fractions", group))
    totals = accumulate(1 if by_group else images[group] for group in in_order)
    fewest = next((count for count, total in enumerate(totals, 1) if total >= calibration), len(images) + 1)
    in_calibration = max(fewest, round(fractions[2] * len(images)))
    others = len(images) - in_calibration
    if others < len(PARTS) - 1:
        units_text = "groups" if by_group else "images"
        raise InvalidArgumentError(
            f"{plural(len(groups), 'image')} in {plural(len(images), 'group')} "
            f"{verb(len(groups), 'is')} too few for four parts with at least "
            f"{calibration} {units_text} for calibration: add images, or ask for less confidence"
        )
    shares = [fraction for part, fraction in zip(PARTS, fractions, strict=True) if part != "calibration"]
    ends = [round(others * share / sum(shares)) for share in accumulate(shares)]
    # every part has at least one group
    train_end = min(max(1, ends[0]), others - 2)
    selection_end = min(max(train_end + 1, ends[1]), others - 1)
    parts = ["calibration"] * in_calibration + ["train"] * train_end
    parts += ["selection"] * (selection_end - train_end) + ["test"] * (others - selection_end)
    return dict(zip(in_order, parts, strict=True))


def set_aside(groups: Collection[str], fraction: float, seed: int) -> set[str]:
    """Return about this fraction of two or more groups, drawn by hash; at least one, and not all."""
    in_order = sorted(groups, key=lambda group: uniform(seed, "holdout", group))
    return set(in_order[: n_set_aside(len(groups), fraction)])


def n_set_aside(groups: int, fraction: float) -> int:
    """Return how many of this many groups are set aside."""
    return min(max(1, round(fraction * groups)), groups - 1)


def part_of_tile(file: str, tile: str, split: str = "file", seed: int = 0) -> str:
    """Return the part of a tile of a file.

    `file` keeps whole files together; `within` does so for train and selection and assigns the tiles of all
    other files to calibration and test; `tile` assigns all four by tile; `paper` does so too, and allows
    tiles to overlap.
    """
    check_split(split)
    if split in ("tile", "paper"):
        return part_of(tile, seed)
    part = part_of(file, seed)
    if split == "file" or part in PARTS[:2]:
        return part
    share = FRACTIONS[2] + FRACTIONS[3]
    return _part_at(uniform(seed, "within", tile) * share, PARTS[2:], FRACTIONS[2:])


def check_split(split: str) -> None:
    """Raise for an unknown way of splitting."""
    if split not in get_args(SplitUnit):
        raise InvalidArgumentError(f"split {split!r} is unknown; choose from {list(get_args(SplitUnit))}")


def check_part(name: str) -> None:
    """Raise for a name that is not one of PARTS."""
    if name not in PARTS:
        raise InvalidArgumentError(f"part {name!r} is unknown; choose from {list(PARTS)}")


def _part_at(number: float, parts: tuple[str, ...], fractions: tuple[float, ...]) -> str:
    """Return the part in which a number lies, with parts as wide as their fractions, from 0 on."""
    for part, fraction in zip(parts[:-1], fractions[:-1], strict=True):
        if number < fraction:
            return part
        number -= fraction
    return parts[-1]


MANIFEST = "manifest.csv"
REQUIRED = ("x", "y_hat")
SEPARATORS = (",", ";", "\t")
ROLES: Final = ("x", "y_hat", "y")
FACTS = ("group", "category", "weight")
LABELS = ("groups", "categories", "names")
SINGULAR = {
    "names": "name", "groups": "group", "categories": "category", "weights": "weight",
}  # fmt: skip
"""What is known of one image, by the name of the column of all."""
MOST_COLUMNS = 1000


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


def rows_of_arrays(arguments: Mapping[str, Any]) -> list[TripletRow]:
    """Make rows from columns named as the arguments of Triplets.from_arrays; names are else numbers.

    A function makes layers of the columns of images before it.
    """
    columns: dict[str, list[Any]] = {}
    for name, values in arguments.items():
        if callable(values) and chosen(LAYERS, name, "layer").role:
            made = {kind.name: kind.role for kind in LAYERS.values() if kind.role in columns}
            columns |= {layer: list(map(values, columns[role])) for layer, role in made.items()}
        elif values is not None:
            columns[name] = list(values)
    columns |= {name: list(map(str, columns[name])) for name in LABELS if name in columns}
    count = len(columns["x"])
    if count == 0:
        raise InvalidArgumentError("x is empty; give at least one image")
    for name, values in columns.items():
        if len(values) != count:
            raise InvalidArgumentError(
                f"{name} has {len(values)} items but x has {count}; give one for each image"
            )
    columns.setdefault("names", [f"{index:05d}" for index in range(count)])
    singular = SINGULAR | {kind.plural: kind.name for kind in LAYERS.values()}
    fields = [singular.get(name, name) for name in columns]
    rows = [_row(dict(zip(fields, values, strict=True))) for values in zip(*columns.values(), strict=True)]
    names: set[str] = set()
    for index, row in enumerate(rows):
        check_name(row.name, f"triplet {index}")
        _check_new(row.name, names, f"triplet {index}")
        if "weight" in row.facts:
            parse_weight(row.facts["weight"], f"triplet {row.name!r}")
    return rows


def _row(known: Mapping[str, Any]) -> TripletRow:
    """Make a row of what is known of one image, by name."""
    if unknown := [name for name in known if name not in ("name", "part", *ROLES, *FACTS, *LAYERS)]:
        names = ", ".join(kind.name for kind in as_read())
        raise InvalidArgumentError(f"layer {unknown[0]!r} is unknown; choose from {names}")
    own = {name: known.get(name) for name in ("name", *ROLES, "part")}
    layers, facts = (
        {name: known[name] for name in names if known.get(name) is not None} for names in (LAYERS, FACTS)
    )
    row = TripletRow(**own, layers=layers, facts=facts)  # type: ignore[arg-type]
    for kind in LAYERS.values():
        row = kind.complete(row)
    return row


def rows_of_manifest(path: Path, reading: Reading = PLAIN) -> list[TripletRow]:
    """Read and check every line of a manifest, as an editor or Excel saves it."""
    if not os.path.isfile(path):
        raise MissingFileError(f"{path} does not exist")
    text = _text(path)
    kinds = {place: kind for kind in LAYERS.values() if (place := kind.place(reading)) is not None}
    known = (*ROLES, *kinds, "name", *FACTS, "split")
    first_line = StringIO(text, newline="").readline()
    columns = {sign: {cell.strip('" \r\n') for cell in first_line.split(sign)} for sign in SEPARATORS}
    separator = max(SEPARATORS, key=lambda sign: len(columns[sign].intersection(known)))
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        reader.fieldnames = [column.strip() for column in reader.fieldnames or ()]
        _check_columns(path, reader.fieldnames, known, kinds, reading)
        rows = list(_parsed(path, reader, kinds))
    except csv.Error as error:
        raise InvalidArgumentError(
            f"{path} line {reader.reader.line_num}: {error}; look for an unclosed quotation mark"
        ) from error
    if not rows:
        raise InvalidArgumentError(f"{path} lists no triplets; write one line per triplet")
    for kind in LAYERS.values():
        rows = kind.attach(rows, path.parent, reading) if kind.beside_manifest else rows
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


def _check_columns(
    path: Path,
    columns: Sequence[str],
    known: Collection[str],
    kinds: Mapping[str, LayerKind],
    reading: Reading,
) -> None:
    if len(columns) > MOST_COLUMNS:
        raise InvalidArgumentError(
            f"{path} line 1 has {len(columns):,} columns, but only {len(known)} of them have known names: "
            "is it a manifest?"
        )
    layers = (place for place, kind in kinds.items() if kind.required(reading) is not None)
    missing = [column for column in (*REQUIRED, *layers) if column not in columns]
    if missing:
        raise InvalidArgumentError(
            f"{path} line 1: no column {missing[0]!r} among {list(columns)}; the allowed columns are "
            f"{list(known)}"
        )
    for column in columns:
        similar = get_close_matches(column.lower(), known, n=1, cutoff=0.8)
        if column not in known and similar:
            raise InvalidArgumentError(
                f"{path} line 1: unknown column {column!r}; did you mean {similar[0]!r}?"
            )
        if column and columns.count(column) > 1:
            raise InvalidArgumentError(f"{path} line 1: two columns {column!r}; keep one of them")


def _parsed(
    path: Path, reader: "csv.DictReader[str]", kinds: Mapping[str, LayerKind]
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
        row = _parsed_line(path.parent, cells, where, kinds)
        _check_new(row.name, names, where)
        yield row


def _parsed_line(
    folder: Path, line: Mapping[str, str], where: str, kinds: Mapping[str, LayerKind]
) -> TripletRow:
    known: dict[str, Any] = {role: _file(folder, line, role, where) for role in REQUIRED}
    known |= {
        kind.name: _file(folder, line, place, where)
        for place, kind in kinds.items()
        if place in line and (line[place] or not kind.may_be_empty)
    }
    if line.get("y"):
        known["y"] = _file(folder, line, "y", where)
    known["name"] = line.get("name") or name_and_suffix(known["y_hat"])[0]
    check_name(known["name"], where)
    category, part = line.get("category"), line.get("split")
    if category == "":
        raise InvalidArgumentError(f"{where}: category is empty; fill it on every line or drop the column")
    known |= {"weight": parse_weight(line["weight"], where)} if "weight" in line else {}
    if part is not None and part not in PARTS:
        raise InvalidArgumentError(f"{where}: split is {part!r}; choose from {list(PARTS)}")
    return _row(known | {"group": line.get("group") or None, "category": category, "part": part})


def _file(folder: Path, line: Mapping[str, str], role: str, where: str) -> Path:
    if not line[role]:
        raise InvalidArgumentError(f"{where}: {role} is empty; give the path of an image")
    path = folder / line[role]
    file, _ = at_time(path)
    if not (os.path.isfile(file) or is_image(file)):
        raise MissingFileError(f"{where}: {role} names {path}, which does not exist")
    return path


def rows_of_folder(folder: Path, reading: Reading = PLAIN) -> list[TripletRow]:
    """Match folder/x, folder/y_hat and, where they exist, folder/y and those of layers by stem."""
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder")
    for role in REQUIRED:
        if not (folder / role).is_dir():
            raise MissingFileError(f"{folder} has no folder {role}/; it needs x/ and y_hat/, or a {MANIFEST}")
    folders = {role: folder / role for role in ROLES if (folder / role).is_dir()}
    folders |= {
        kind.name: place
        for kind in LAYERS.values()
        if kind.found_by_stem and (place := kind.folder(folder, reading)) is not None
    }
    return with_layers(rows_of_folders(folders, reading), folder, reading)


def with_layers(rows: list[TripletRow], beside: Path, reading: Reading) -> list[TripletRow]:
    """Return the rows with the layers beside y_hat/ that are not found by the stems of images."""
    for kind in LAYERS.values():
        rows = kind.attach(rows, beside, reading)
    return rows


def rows_of_folders(folders: Mapping[str, Path], reading: Reading = PLAIN) -> list[TripletRow]:
    """Match the files of folders, by role or layer and x first, by stem.

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


def _rows_of(stem: str, files: Mapping[str, Path], reading: Reading) -> Iterator[TripletRow]:
    """Yield one row, or one for each time point."""
    times = {role: times_of(path, reading) for role, path in files.items()}
    count = times["y_hat"]
    if count is None:
        yield _row({"name": stem, **files})
        return
    for role, path in files.items():
        may_lack_time = role in LAYERS and LAYERS[role].without_time
        if times[role] != count and not (may_lack_time and times[role] is None):
            raise ImageError(
                f"{path} has {times[role] or 'no'} time points, but {files['y_hat']} has {count}: they "
                "must agree"
            )
    for time in range(count):
        points = {
            role: path if times[role] is None else path.with_name(f"{path.name}#t={time}")
            for role, path in files.items()
        }
        yield _row({"name": f"{stem}_t{time:03d}", "group": stem, **points})


def _check_partners(
    folder: Path, files: Mapping[str, Path], other: Path, partners: Mapping[str, Path]
) -> None:
    unmatched = [path.name for stem, path in files.items() if stem not in partners]
    if unmatched:
        more = f" and {len(unmatched) - SHOWN} more" if len(unmatched) > SHOWN else ""
        raise MissingFileError(
            f"{folder}: {', '.join(unmatched[:SHOWN])}{more} {verb(len(unmatched), 'has')} no partner of "
            f"the same name in {other}; add the missing files or remove these"
        )


FILE = "triplets.json"


@dataclass(frozen=True)
class Provenance:
    """The origin of the triplets, and what limits a promise about them."""

    task: str | None = None
    network: Network | None = None
    """The network that made y_hat; None if not recorded."""
    trained_on: tuple[str, ...] = ()
    """Pixel hashes of the true images that the network was trained on."""
    population: str | None = None
    """The images for which a promise holds, where they are fewer than "new images like these"; else None."""
    cues: str | None = None
    """How the maps in cues/ were made, such as "samples,8"; None where conformask did not make them."""
    source: str | None = None
    """Hash of the true images and of the task, until the triplets are finished."""
    finished: bool = True
    """True if the triplets are complete."""
    reading: Reading | None = None
    """How the files that manifest.csv lists are read, where conformask listed a user's; else None."""
    any_network: bool = False
    """True if the images are used whichever network made y_hat; it is never written."""

    def save(self, folder: Path) -> None:
        """Write triplets.json."""
        write_json(folder / FILE, self._record())

    def claim(self, folder: Path, files: Iterable[str]) -> None:
        """Write triplets.json, which claims these files, relative to the folder, before they are written."""
        claim(folder / FILE, self._record(), files)

    def _record(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "any_network"}

    @classmethod
    def load(cls, folder: Path, network: str | None = None) -> "Provenance":
        """Read triplets.json, if there is one; `network` is the maker of y_hat, if the file names none."""
        path = folder / FILE
        provenance = from_dict(cls, with_network(_record(folder)), path)
        if not provenance.finished:
            raise MismatchError(f"{folder} contains unfinished triplets: repeat the command")
        if network is None or provenance.network == Network(network):
            return provenance
        if provenance.network is not None:
            raise MismatchError(
                f"{path} states that y_hat was made by {provenance.network.name}, not {network}"
            )
        return replace(provenance, network=Network(network))


def unfinished(folder: Path) -> Provenance | None:
    """Return the provenance of triplets that are not complete yet; None where there are none."""
    record = _record(folder)
    return from_dict(Provenance, record, folder / FILE) if record.get("finished") is False else None


def _record(folder: Path) -> dict[str, Json]:
    return read_json(folder / FILE) if (folder / FILE).is_file() else {}


UNKNOWN = Provenance()
