"""The table of all test images, to read and as a CSV file."""

import base64
import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from conformask.conformal.crossing import passes
from conformask.records.evaluation import Evaluation
from conformask.report.words import figure
from conformask.storage.as_json import Json

MEASURES = {
    "distance": "loss",
    "unmasked_distance": "without a mask",
    "size": "mask size",
    "oracle_size": "oracle’s size",
    "difficulty": "mean score",
}
"""Columns of numbers, and what stands above them; the file has all."""


@dataclass(frozen=True)
class ImageRow:
    """An image with what was measured on it."""

    names: list[str]
    """Its own, its group and its category, as far as any image has one."""
    met: bool
    numbers: list[tuple[str, str]]
    """To sort by, and to read."""


@dataclass(frozen=True)
class ImageTable:
    """All test images."""

    names: list[str]
    measures: list[str]
    rows: list[ImageRow]
    csv: str
    """The whole record as a data URI."""


def image_table(evaluation: Evaluation) -> ImageTable:
    """Rows in the order of the record; columns that no image has a value for are left out of the page."""
    columns = evaluation.images.columns()
    named = [name for name in ("name", "group", "category") if any(columns[name])]
    measured = [name for name in MEASURES if not np.isnan(columns[name]).all()]
    met = passes(evaluation.images.distance, evaluation.threshold).tolist()
    names = zip(*(columns[name] for name in named), strict=True)
    numbers = zip(*(columns[name] for name in measured), strict=True)
    rows = [
        ImageRow(
            [str(name or "") for name in of_names],
            kept,
            [(_exact(value), figure(value)) for value in of_numbers],
        )
        for of_names, kept, of_numbers in zip(names, met, numbers, strict=True)
    ]
    return ImageTable(
        ["image", *named[1:]], [MEASURES[name] for name in measured], rows, _csv({**columns, "passed": met})
    )


def _exact(value: float) -> str:
    """As scripts read it; nothing where there is none."""
    return "" if math.isnan(value) else f"{value:.6g}".replace("inf", "Infinity")


def _csv(columns: Mapping[str, Sequence[Json]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return "data:text/csv;base64," + base64.b64encode(text.getvalue().encode()).decode("ascii")
