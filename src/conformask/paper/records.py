"""Results of the rows of the paper's table, for the table and the figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conformask.paper.settings import PaperPreset, TableRow
from conformask.records.evaluation import Evaluation
from conformask.storage.as_arrays import Array


@dataclass(frozen=True)
class RowResult:
    """Result of a finished row; its arrays have one value per test image, in the order of the evaluations."""

    row: TableRow
    threshold: float
    methods: Mapping[str, Evaluation]
    """Evaluations by method: mask (the paper's), quantile and default, on the same test images."""
    opt_size: Array
    """Mask size of the paper's Opt, (n_test,); NaN where it was not computed or missed the threshold."""
    exact_size: Array
    """Mask size of the exact oracle, (n_test,); NaN where there is none."""
    exact_distance: Array
    """Masked distance of the exact oracle, (n_test,); NaN where there is none."""
    opt_distance: Array
    """Masked distance of the paper's Opt, (n_test,); NaN where it was not computed."""


@dataclass(frozen=True)
class Finished:
    """A finished row with what the table shows besides the test images."""

    result: RowResult
    resplits: Mapping[str, Mapping[str, Any]]
    """Resplits by method: coverage and size of each, mean and deviation of the law of coverage, and coverage
    of the first five as measured on the masks."""
    images: Mapping[str, int]
    """Number of images in each part."""


@dataclass(frozen=True)
class Run:
    """Settings and time of the run of a table."""

    name: str
    preset: PaperPreset
    split: str
    seconds: float
    """Total seconds of all finished stages, each counted once."""
    rows: int
    """Number of requested rows."""
