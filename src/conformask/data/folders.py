"""The rows of a collection of triplets whose files lie in folders x/, y_hat/, y/, matched by stem."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from conformask.data.decoding import name_and_suffix, read_header, times_of
from conformask.data.images import list_images
from conformask.data.manifest import MANIFEST, REQUIRED, ROLES
from conformask.data.rows import TripletRow
from conformask.errors import ImageError, MissingFileError
from conformask.records.reading import PLAIN, Reading

REPEATS = "repeats"
"""Folder of one or two repeats of each image, NAME_1 and NAME_2, in the place of y/."""
SHOWN = 5
"""Number of names that an error lists."""


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
        rows = _with_repeats(rows, folder / REPEATS, reading)
    return with_labels(rows, folder, reading)


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

    A file NAME with two time points, or twice the channels of y_hat, holds both.

    Raises:
        MissingFileError: one of them is missing, or there is one of no image.
        ImageError: a file NAME has neither.
    """
    files = by_stem(folder)
    for row in rows:
        if (path := files.pop(row.name, None)) is not None:
            files |= _repeats_in(path, row, reading)
    two = any(f"{row.name}_2" in files for row in rows)
    needed = [f"{row.name}_{place}" for row in rows for place in (1, 2)[: 1 + two]]
    missing, others = set(needed) - set(files), set(files) - set(needed)
    if missing or others:
        listed = ", ".join(sorted(missing or others)[:SHOWN])
        what = "no file of the name" if missing else "files of no image:"
        raise MissingFileError(
            f"{folder} has {what} {listed}; give NAME_1 and NAME_2 of each image, NAME_1 alone of each, or "
            "files NAME with two time points or twice the channels"
        )
    return [
        replace(row, y=files[f"{row.name}_1"], repeat=files.get(f"{row.name}_2"), noisy=True) for row in rows
    ]


def _repeats_in(path: Path, row: TripletRow, reading: Reading) -> dict[str, Path]:
    """Return the file of NAME_1 and NAME_2: two time points of one, or one of which both are channels.

    Raises:
        ImageError: it is neither.
    """
    count, names = times_of(path, reading), [f"{row.name}_{place}" for place in (1, 2)]
    if count == 2:
        return {name: path.with_name(f"{path.name}#t={time}") for time, name in enumerate(names)}
    if count is None and read_header(path, reading).channels == 2 * row.header("y_hat", reading).channels:
        return dict.fromkeys(names, path)
    raise ImageError(
        f"{path} has {count or 'no'} time points, and not twice the channels of y_hat: give a file with two, "
        f"the repeats, or one repeat in a file named {names[0]}"
    )


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


def _rows_of(stem: str, files: Mapping[str, Path], reading: Reading) -> Iterator[TripletRow]:
    """Yield one row, or one for each time point."""
    times = {role: times_of(path, reading) for role, path in files.items()}
    count = times["y_hat"]
    if count is None:
        by_field: dict[str, Any] = dict(files)
        yield TripletRow(stem, **by_field)
        return
    for role, path in files.items():
        if times[role] != count and not (role == "region" and times[role] is None):
            raise ImageError(
                f"{path} has {times[role] or 'no'} time points, but {files['y_hat']} has {count}: they "
                "must agree"
            )
    for time in range(count):
        points: dict[str, Any] = {
            role: path if times[role] is None else path.with_name(f"{path.name}#t={time}")
            for role, path in files.items()
        }
        yield TripletRow(f"{stem}_t{time:03d}", group=stem, **points)


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
