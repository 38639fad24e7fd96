"""What a row of the paper's table leaves, for the table and the figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conformask.paper.settings import Preset, TableRow
from conformask.records.evaluation import Evaluation
from conformask.types import Array


@dataclass(frozen=True)
class RowResult:
    """One finished row; all arrays have one value for each test image, in the order of the evaluations."""

    row: TableRow
    threshold: float
    methods: Mapping[str, Evaluation]
    """mask (the paper's), quantile and default, each evaluated on the same test images."""
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
    """A finished row with what the table says beside the test images."""

    result: RowResult
    resplits: Mapping[str, Mapping[str, Any]]
    """Of each method: coverage and size of each resplit, the mean and deviation of the law of coverage, and
    coverage of the first five as measured on the masks."""
    images: Mapping[str, int]
    """Images of each part."""


@dataclass(frozen=True)
class Run:
    """What the rows of a table were run with."""

    name: str
    preset: Preset
    split: str
    seconds: float
    """What all stages that are done took, each counted once."""
    rows: int
    """Rows that were asked for."""
