"""Writing of paper.csv, with one line per row and method, and of paper.md."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from conformask.conformal.crossing import meets_threshold
from conformask.paper import statistics
from conformask.paper.records import Finished, Run
from conformask.paper.settings import METHODS
from conformask.paper.statistics import NOTHING, Estimate
from conformask.paper.text import page
from conformask.storage.as_arrays import Array
from conformask.storage.as_json import claim
from conformask.storage.atomic import atomic_write

ORACLES = ("exact", "opt")


@dataclass(frozen=True)
class TableLine:
    """A line of paper.csv.

    Sizes, their bootstrap interval (95 %, over images) and correlations are from the test images of the
    one split; coverage is the mean over resplits, for an oracle the share of images on which it reached the
    threshold. A value that does not exist is NaN, and empty in the file.
    """

    row: int
    task: str
    data: str
    network: str
    distance: str
    method: str
    mask_size: float
    mask_size_low: float
    mask_size_high: float
    coverage: float
    c_size_distance: float
    c_size_opt: float
    n_calibration: int
    n_test: int


RECORD = "paper.json"
"""Record that claims what the experiments write beside their stages."""
FILES = ("paper.csv", "paper.md")
COLUMNS = tuple(field.name for field in fields(TableLine))


def write_table(finished: Sequence[Finished], run: Run, out: Path) -> tuple[Path, ...]:
    """Write paper.csv and paper.md, and return their paths."""
    table, text = (out / name for name in FILES)
    claim(out / RECORD, {}, FILES)
    with atomic_write(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        for line in lines(finished):
            writer.writerow({name: _text(value) for name, value in vars(line).items()})
    with atomic_write(text) as temporary:
        temporary.write_text(page(finished, run), encoding="utf-8")
    return table, text


def lines(finished: Sequence[Finished]) -> Iterator[TableLine]:
    """Yield the lines of each row: exact, opt, mask, quantile and default."""
    for entry in finished:
        for oracle in ORACLES:
            yield _oracle_line(entry, oracle)
        for method in METHODS:
            yield _method_line(entry, method)


def _method_line(entry: Finished, method: str) -> TableLine:
    evaluation = entry.result.methods[method]
    images = evaluation.images
    return _line(
        entry,
        method,
        statistics.mean(images.size),
        float(entry.resplits[method]["coverage"].mean()),
        statistics.correlation(images.size, images.unmasked_loss),
        statistics.correlation(images.size, entry.result.opt_size),
        (evaluation.card.n_calibration, evaluation.n_test),
    )


def _oracle_line(entry: Finished, oracle: str) -> TableLine:
    result = entry.result
    size, distance = {
        "exact": (result.exact_size, result.exact_distance),
        "opt": (result.opt_size, result.opt_distance),
    }[oracle]
    unmasked = result.methods["mask"].images.unmasked_loss
    against_opt = statistics.correlation(size, result.opt_size) if oracle == "exact" else NOTHING
    return _line(
        entry,
        oracle,
        statistics.mean(size),
        _coverage(distance, result.threshold),
        statistics.correlation(size, unmasked),
        against_opt,
        (0, int(np.isfinite(size).sum())),
    )


def _coverage(distance: Array, threshold: float) -> float:
    """Return the share of an oracle's images that it brought below the threshold."""
    met = meets_threshold(distance[np.isfinite(distance)], threshold)
    return float(met.mean()) if len(met) else np.nan


def _line(
    entry: Finished,
    method: str,
    size: Estimate,
    coverage: float,
    with_distance: Estimate,
    with_opt: Estimate,
    counts: tuple[int, int],
) -> TableLine:
    row = entry.result.row
    return TableLine(
        row=row.number,
        task=row.task,
        data=row.data,
        network=row.network,
        distance=row.distance,
        method=method,
        mask_size=size.value,
        mask_size_low=size.low,
        mask_size_high=size.high,
        coverage=coverage,
        c_size_distance=with_distance.value,
        c_size_opt=with_opt.value,
        n_calibration=counts[0],
        n_test=counts[1],
    )


def _text(value: object) -> object:
    if not isinstance(value, float):
        return value
    return "" if np.isnan(value) else f"{value:.6g}"
