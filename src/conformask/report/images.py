"""The table of all test images, for the page and as a CSV file."""

import base64
import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from conformask.conformal.crossing import meets_threshold
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
"""Columns of numbers, and their headings; the CSV file has all columns."""


@dataclass(frozen=True)
class ImageRow:
    """Row of an image in the table: its names and its measures."""

    names: list[str]
    """Name, group and category of the image; without columns that are empty for all images."""
    met: bool
    numbers: list[tuple[str, str]]
    """Pairs of a number to sort by and its text."""


@dataclass(frozen=True)
class ImageTable:
    """Table of all test images."""

    names: list[str]
    measures: list[str]
    rows: list[ImageRow]
    csv: str
    """CSV file of the whole record as a data URI."""


def image_table(evaluation: Evaluation) -> ImageTable:
    """Return rows in the order of the record, without columns that are empty for all images."""
    columns = evaluation.images.columns()
    named = [name for name in ("name", "group", "category") if any(columns[name])]
    measured = [name for name in MEASURES if not np.isnan(columns[name]).all()]
    met = meets_threshold(evaluation.images.distance, evaluation.threshold).tolist()
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
    """Return a number for scripts to sort by; empty for NaN."""
    return "" if math.isnan(value) else f"{value:.6g}".replace("inf", "Infinity")


def _csv(columns: Mapping[str, Sequence[Json]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return "data:text/csv;base64," + base64.b64encode(text.getvalue().encode()).decode("ascii")
