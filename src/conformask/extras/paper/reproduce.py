"""The paper's experiments in one call: all stages of all rows, then the table and the figures."""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from conformask.arrays import Distance
from conformask.background import DEFAULT_DEVICES, Compute, main_process
from conformask.errors import ConformaskError, chosen
from conformask.extensions import required
from conformask.extras.paper import PRESETS, SPLITS, Finished, PaperPreset, Run, TableRow, rows_of
from conformask.extras.paper.measures import calibrate_method, evaluate_method, measure_oracles
from conformask.extras.paper.rows import Row, train_scorer
from conformask.extras.paper.stages import Cache, RowPlan, Stage, collections_of, plan_row, unique
from conformask.extras.paper.table import FIGURES, FILES, PAGE, write_table
from conformask.losses.distances import distance as distance_by_name
from conformask.records.record import refuse_unclaimed, refuse_unclaimed_in


@dataclass
class Display:
    """Display of a run's stages: which are done, and about how long the others will take."""

    plans: Sequence[RowPlan]
    cache: Cache
    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.stages = unique(stage for plan in self.plans for stage in plan.stages())

    def begin(self, plan: RowPlan, stage: Stage) -> None:
        """Show which stage begins."""
        number = len(self.stages) - len(self._missing()) + 1
        left = clock(self.remaining())
        self.show(
            f"[{number}/{len(self.stages)}] row {plan.row.number}: {stage.kind} {stage.name}, {left} left"
        )

    def report_finished(self, plan: RowPlan) -> None:
        """Show that a row is finished."""
        self.show(f"row {plan.row.number} finished, {clock(time.monotonic() - self.started)} so far")
        if self.console.is_terminal and main_process():
            self.console.print(self.matrix())

    def remaining(self) -> float:
        """Return the seconds left, by the times of similar finished stages, or else by expected times."""
        seconds_by_likeness = defaultdict(list)
        for stage in self.stages:
            seconds = self.cache.seconds(stage)
            if seconds is not None:
                seconds_by_likeness[stage.likeness].append(seconds)
        return sum(
            sum(times) / len(times) if (times := seconds_by_likeness[stage.likeness]) else stage.expected
            for stage in self._missing()
        )

    def matrix(self) -> Table:
        """Return a table of rows and stages: how many of each kind are done."""
        table = Table("row", "done", box=None, padding=(0, 2, 0, 0))
        for plan in self.plans:
            row, done = plan.row, defaultdict(list)
            for stage in plan.stages():
                done[stage.kind].append(self.cache.done(stage))
            title = f"{row.number} {row.task} of {row.data}, {row.network}, {row.distance}"
            table.add_row(title, ", ".join(f"{kind} {sum(each)}/{len(each)}" for kind, each in done.items()))
        return table

    def _missing(self) -> list[Stage]:
        return self.cache.missing(goal for plan in self.plans for goal in plan.goals())

    def show(self, text: str) -> None:
        """Print a line, in the first process."""
        if main_process():
            self.console.print(text, markup=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """Format as hours and minutes, or minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{rest:02d} min"


@dataclass(frozen=True)
class Reproduction:
    """Results of a run."""

    finished: tuple[Finished, ...]
    files: tuple[Path, ...]
    seconds: float


def reproduce(
    out: str | Path,
    *,
    preset: str | PaperPreset = "cpu",
    photos: str | Path | None = None,
    cells: str | Path | None = None,
    rows: Sequence[int] | None = None,
    split: str = "within",
    compute: Compute = DEFAULT_DEVICES,
    weights_path: str | Path | None = None,
) -> Reproduction:
    """Run rows of the paper's Table 1; out receives paper.csv, paper.md, the figures and stages/.

    Finished stages are not repeated, so that a killed run resumes when it is started again. A row that was
    run elsewhere counts as done if its stages/opt-* and stages/evaluation-* are copied here.

    Args:
        out: the folder for everything.
        preset: smoke, cpu, long, paper, or your own settings.
        photos: a folder of photographs, such as Places365; subfolders are included.
        cells: a folder of micrographs, which are cut into tiles.
        rows: the numbers of rows in the table, 1 to 16; all if None.
        split: how tiles of the cells are assigned: "within" keeps whole fields for training, "paper" assigns
            all tiles at random although they overlap.
        compute: the devices; all, if it names none.
        weights_path: the file, or its folder, of the network under LPIPS, which is not downloaded.
    """
    required("matplotlib", "conformask paper", "plot")
    out, start = Path(out), time.monotonic()
    name, used = (preset, chosen(PRESETS, preset, "preset")) if isinstance(preset, str) else ("own", preset)
    chosen(SPLITS, split, "split")
    refuse_unclaimed(out / file for file in (*FILES, PAGE))
    refuse_unclaimed_in(out / FIGURES)
    table_rows, cache = rows_of(rows), Cache(out / "stages")
    folders = {"photos": photos, "cells": cells}
    collections = collections_of(table_rows, used, folders, split)
    distances = distances_of(table_rows, used, weights_path)
    images = {data: collection.stage(data) for data, collection in collections.items()}
    plans = [plan_row(row, used, images[row.data]) for row in table_rows]
    devices = replace(compute, devices=compute.devices or "auto")
    work = [
        Row(plan, used, cache, collections[plan.row.data], distances[plan.row.distance], devices)
        for plan in plans
    ]
    run = Run(name, used, split, seconds=0, rows=len(plans))
    finished, files = _run(work, run, out, Display(plans, cache))
    return Reproduction(finished, files, time.monotonic() - start)


def distances_of(
    rows: Sequence[TableRow], preset: PaperPreset, weights_path: str | Path | None
) -> dict[str, Distance]:
    """Return the distances that the rows need, each tried once."""
    distances = {}
    for name in dict.fromkeys(row.distance for row in rows):
        distances[name] = distance_by_name(name, weights_path if name == "lpips" else None)
        zeros = torch.zeros(1, 1, preset.size, preset.size)
        distances[name](zeros, zeros)
    return distances


def _run(
    rows: Sequence[Row], run: Run, out: Path, display: Display
) -> tuple[tuple[Finished, ...], tuple[Path, ...]]:
    """Run the unfinished stages of all rows; write the table after each row, and the page at the end."""
    from conformask.extras.paper.figures import write_page

    cache = display.cache
    for row in rows:  # every image of every collection is read before any training
        if row.plan.images in cache.missing(row.plan.goals()):
            _run_stage(row, row.plan.images, display)
    finished: list[Finished] = []
    errors: dict[int, ConformaskError] = {}
    files: tuple[Path, ...] = ()
    for row in rows:
        try:
            for stage in cache.missing(row.plan.goals()):
                _run_stage(row, stage, display)
            finished.append(row.finished())
        except ConformaskError as error:
            errors[row.row.number] = error
            display.show(f"row {row.row.number} failed: {error}")
            continue
        display.report_finished(row.plan)
        if main_process():
            seconds = sum(cache.seconds(stage) or 0.0 for stage in display.stages)
            files = write_table(finished, replace(run, seconds=seconds), out)
    if finished and main_process():
        files += tuple(write_page([row.result for row in finished], out))
    if errors:
        reasons = "; ".join(f"row {number}: {error}" for number, error in errors.items())
        raise ConformaskError(f"{len(errors)} of {len(rows)} rows failed; the others are finished. {reasons}")
    return tuple(finished), files


def _run_stage(row: Row, stage: Stage, display: Display) -> None:
    display.begin(row.plan, stage)
    row.cache.run(stage, lambda folder: _work(row, stage, folder))


def _work(row: Row, stage: Stage, folder: Path) -> None:
    """Do the work of a stage, in its folder."""
    match stage.kind:
        case "images":
            row.collection.read_all()
        case "predictor":
            row.collection.train_predictor(row.row, row.preset, row.compute, folder)
        case "triplets":
            row.collection.write_triplets(row.cache.folder(row.plan.predictor), row.compute, folder)
        case "scorer":
            train_scorer(row, stage.method, folder)
        case "opt":
            measure_oracles(row, folder)
        case "calibration":
            calibrate_method(row, stage.method, folder)
        case "evaluation":
            evaluate_method(row, stage.method, folder)
