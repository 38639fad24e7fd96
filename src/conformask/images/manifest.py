"""Writing manifest.csv: where the files of triplets lie, and the part that each triplet is in."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from conformask.images.rows import MANIFEST, ROLES, Provenance
from conformask.images.triplets import Triplets
from conformask.records.record import write_csv


def write_manifest(folder: Path, parts: Mapping[str, Triplets], provenance: Provenance) -> None:
    """List the files of all parts, where they are and how they are read; those in the folder move with it.

    Raises:
        OutputError: the folder has a manifest.csv that its triplets.json does not claim.
    """
    reading = next(iter(parts.values())).reading
    replace(provenance, reading=reading).claim(folder, [MANIFEST])
    lines = []
    for part, images in parts.items():
        columns = {role: role for role in ROLES} | images.layer_columns
        for index, name in enumerate(images.names):
            paths = {column: images.file(index, role) for column, role in columns.items()}
            placed = {column: path and _from(folder.absolute(), path) for column, path in paths.items()}
            lines.append({"name": name, **placed, **images.facts(index), "split": part})
    write_csv(folder / MANIFEST, lines, list(dict.fromkeys(column for line in lines for column in line)))


def _from(folder: Path, path: Path) -> Path:
    path = path.absolute()
    return path.relative_to(folder) if path.is_relative_to(folder) else path
