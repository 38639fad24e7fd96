"""CSV files."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from conformask.storage.atomic import atomic_write


def write_csv(path: Path, rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Write rows with these columns, whole or not at all."""
    with atomic_write(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
