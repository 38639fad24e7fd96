"""The paper's experiments in one call: all stages of all rows, then the table and the figures."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from conformask.errors import ConformaskError, chosen
from conformask.paper.display import Display
from conformask.paper.page import FIGURES, PAGE, write_page
from conformask.paper.plan import RowPlan, plan_row
from conformask.paper.records import Finished, RowResult, Run
from conformask.paper.row_stages import OPT, RESPLITS, RowStages
from conformask.paper.settings import METHODS, PRESETS, PaperPreset
from conformask.paper.sources import SPLITS, Collection, collections_of, distances_of, rows_of
from conformask.paper.stages import Cache, unique
from conformask.paper.table import FILES, write_table
from conformask.progress import main_process
from conformask.records.evaluation import Evaluation
from conformask.storage.as_arrays import Array, read_arrays
from conformask.storage.as_json import read_json
from conformask.storage.claims import refuse_unclaimed, refuse_unclaimed_in
from conformask.training.processes import ALL_DEVICES, Compute
from conformask.types import Distance


@dataclass(frozen=True)
class Reproduction:
    """Results of a run."""

    finished: tuple[Finished, ...]
    files: tuple[Path, ...]
    seconds: float


@dataclass(frozen=True)
class _Setting:
    """Settings that all rows share."""

    name: str
    preset: PaperPreset
    split: str
    cache: Cache
    collections: Mapping[str, Collection]
    distances: Mapping[str, Distance]
    compute: Compute

    def row_stages(self, plan: RowPlan) -> RowStages:
        row = plan.row
        return RowStages(
            plan,
            self.preset,
            self.cache,
            self.collections[row.data],
            self.distances[row.distance],
            self.compute,
        )


def reproduce(
    out: str | Path,
    *,
    preset: str | PaperPreset = "cpu",
    photos: str | Path | None = None,
    cells: str | Path | None = None,
    rows: Sequence[int] | None = None,
    split: str = "within",
    compute: Compute = ALL_DEVICES,
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
        compute: the devices.
        weights_path: the file, or its folder, of the network under LPIPS, which is not downloaded.

    Raises:
        InvalidArgumentError: an unknown preset or row, a folder that is missing or has too few images.
        MissingFileError: no such folder, no images in it, or no network for LPIPS.
        ImageError: an image that cannot be used.
        OutputError: something that conformask did not write is in the way.
        ConformaskError: rows that failed; the others are finished.
    """
    name, paper_preset = (
        (preset, chosen(PRESETS, preset, "preset")) if isinstance(preset, str) else ("own", preset)
    )
    chosen(SPLITS, split, "split")
    refuse_unclaimed(Path(out) / file for file in (*FILES, PAGE))
    refuse_unclaimed_in(Path(out) / FIGURES)
    table_rows, cache = rows_of(rows), Cache(Path(out) / "stages")
    folders = {"photos": _path(photos), "cells": _path(cells)}
    collections = collections_of(table_rows, paper_preset, folders, split)
    distances = distances_of(table_rows, paper_preset, _path(weights_path))
    images = {data: collection.stage(data) for data, collection in collections.items()}
    plans = [plan_row(row, paper_preset, images[row.data]) for row in table_rows]
    setting = _Setting(name, paper_preset, split, cache, collections, distances, compute)
    return _run(plans, setting, Path(out))


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _run(plans: Sequence[RowPlan], setting: _Setting, out: Path) -> Reproduction:
    display = Display(plans, setting.cache)
    start = time.monotonic()
    _read_all(plans, setting, display)
    finished: list[Finished] = []
    errors: dict[int, ConformaskError] = {}
    files: tuple[Path, ...] = ()
    for plan in plans:
        try:
            finished.append(_run_row(setting.row_stages(plan), display))
        except ConformaskError as error:
            errors[plan.row.number] = error
            display.report_failure(plan, error)
            continue
        display.report_finished(plan)
        files = _write(finished, plans, setting, out)
    if finished and main_process():
        files = (*files, *write_page([row.result for row in finished], out))
    if errors:
        reasons = "; ".join(f"row {number}: {error}" for number, error in errors.items())
        raise ConformaskError(
            f"{len(errors)} of {len(plans)} rows failed; the others are finished. {reasons}"
        )
    return Reproduction(tuple(finished), files, time.monotonic() - start)


def _read_all(plans: Sequence[RowPlan], setting: _Setting, display: Display) -> None:
    """Read every image of every collection, before any training."""
    reading = {plan.images.fingerprint: plan for plan in plans}
    for stage in setting.cache.missing(goal for plan in plans for goal in plan.goals()):
        if plan := reading.get(stage.fingerprint):
            display.begin(plan, stage)
            setting.cache.run(stage, setting.row_stages(plan).images)


def _run_row(row_stages: RowStages, display: Display) -> Finished:
    """Run the unfinished stages of a row, and return its result."""
    plan, cache = row_stages.plan, row_stages.cache
    work_by_stage = {
        plan.images: row_stages.images,
        plan.predictor: row_stages.predictor,
        plan.triplets: row_stages.triplets,
        plan.opt: row_stages.opt,
    }
    work_by_stage |= {stage: partial(row_stages.scorer, method) for method, stage in plan.scorers.items()}
    work_by_stage |= {
        stage: partial(row_stages.calibration, method) for method, stage in plan.calibrations.items()
    }
    work_by_stage |= {
        stage: partial(row_stages.evaluation, method) for method, stage in plan.evaluations.items()
    }
    for stage in cache.missing(plan.goals()):
        display.begin(plan, stage)
        cache.run(stage, work_by_stage[stage])
    return finished_row(row_stages)


def finished_row(row_stages: RowStages) -> Finished:
    """Read the results of the stages of a row."""
    plan, cache = row_stages.plan, row_stages.cache
    folders = {method: cache.folder(plan.evaluations[method]) for method in METHODS}
    evaluations = {method: Evaluation.load(folder) for method, folder in folders.items()}
    oracles = read_arrays(cache.folder(plan.opt) / OPT)
    result = RowResult(
        row=plan.row,
        threshold=evaluations["mask"].card.threshold,
        methods=evaluations,
        opt_size=oracles["opt_size"],
        exact_size=oracles["exact_size"],
        exact_distance=oracles["exact_distance"],
        opt_distance=oracles["opt_distance"],
    )
    return Finished(
        result=result,
        resplits={method: _resplits(folder) for method, folder in folders.items()},
        images=row_stages.collection.counts(),
    )


def _resplits(folder: Path) -> Mapping[str, float | Array]:
    summary = read_json(folder / f"{RESPLITS}.json")
    law = {name: float(summary[name]) for name in ("law_mean", "law_std")}
    return {
        **read_arrays(folder / f"{RESPLITS}.npz"),
        **law,
        "measured": np.array(summary["first_five_measured"]),
    }


def _write(
    finished: Sequence[Finished], plans: Sequence[RowPlan], setting: _Setting, out: Path
) -> tuple[Path, ...]:
    """Write the table of the rows that are finished so far."""
    if not main_process():
        return ()
    stages = unique(stage for plan in plans for stage in plan.stages())
    seconds = sum(setting.cache.seconds(stage) or 0.0 for stage in stages)
    run = Run(setting.name, setting.preset, setting.split, seconds, len(plans))
    return write_table(finished, run, out)
