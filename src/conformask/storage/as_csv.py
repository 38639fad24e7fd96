"""CSV files, whose texts no spreadsheet takes for formulas."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from conformask.storage.atomic import atomic_write

FORMULAS = ("=", "+", "-", "@")
"""Beginnings of texts that a spreadsheet runs."""


def as_cell(value: object) -> object:
    """Return a text that a spreadsheet would run behind an apostrophe, and anything else as it is."""
    return f"'{value}" if isinstance(value, str) and _is_formula(value) else value


def from_cell(text: str) -> str:
    """Return the text for which `as_cell` gave this one."""
    return text[1:] if text.startswith("'") and _is_formula(text) else text


def _is_formula(text: str) -> bool:
    return text.lstrip("'").startswith(FORMULAS)


def write_csv(path: Path, rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Write rows with these columns, whole or not at all."""
    with atomic_write(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: as_cell(value) for name, value in row.items()} for row in rows)
