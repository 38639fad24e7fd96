"""The paper's experiments in one call: all stages of all rows, then the table and the figures."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from conformask.arithmetic import best_device, seeded
from conformask.arrays import Batch, Distance
from conformask.background import DEFAULT_DEVICES, Compute, main_process, tracked
from conformask.errors import ConformaskError, chosen
from conformask.extras.make.predictors import NetworkPredictor
from conformask.extras.make.regressor import fit_predictor
from conformask.extras.make.tasks import task as task_by_name
from conformask.extras.make.triplets import write_triplets
from conformask.extras.paper.page import FIGURES, PAGE, write_page
from conformask.extras.paper.resplits import resplit
from conformask.extras.paper.settings import (
    CONFIDENCE,
    METHODS,
    PRESETS,
    QUANTILE,
    SEED,
    THRESHOLD,
    Finished,
    PaperPreset,
    RowResult,
    Run,
    TableRow,
    TrainingSettings,
)
from conformask.extras.paper.stages import (
    FREE,
    SPLITS,
    Cache,
    Collection,
    RowPlan,
    Stage,
    collections_of,
    distances_of,
    plan_row,
    points,
    rows_of,
    unique,
)
from conformask.extras.paper.table import FILES, write_table
from conformask.extras.train import NetworkOptions, TrainingConfig
from conformask.extras.train.fit import fit_scorer
from conformask.images.triplets import BATCH_SIZE, Triplets
from conformask.losses import loss
from conformask.losses.base import Loss
from conformask.masker.calibrate import calibrate
from conformask.masker.evaluate import evaluate, examples_of
from conformask.masker.load import load
from conformask.masker.masker import Masker
from conformask.masker.run_folder import write_stored
from conformask.masks.critical import GRID_POINTS, loss_under, mask_size, paper_oracle, unmasked_loss
from conformask.masks.families import family
from conformask.promises.promise import Promise
from conformask.records.evaluation import Evaluation
from conformask.records.files import refuse_unclaimed, refuse_unclaimed_in
from conformask.records.record import Array, claim, read_arrays, read_json, write_arrays, write_json
from conformask.scores.network_scorer import NetworkScorer, head
from conformask.scores.networks import UNet, levels_for
from conformask.scores.scoring import selection_record
from conformask.scores.stored import load_scorer


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
        self._print(
            f"[{number}/{len(self.stages)}] row {plan.row.number}: {stage.kind} {stage.name}, {left} left"
        )

    def report_failure(self, plan: RowPlan, error: Exception) -> None:
        """Show that a row cannot be finished."""
        self._print(f"row {plan.row.number} failed: {error}")

    def report_finished(self, plan: RowPlan) -> None:
        """Show that a row is finished."""
        self._print(f"row {plan.row.number} finished, {clock(time.monotonic() - self.started)} so far")
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

    def _print(self, text: str) -> None:
        if main_process():
            self.console.print(text, markup=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """Format as hours and minutes, or minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{rest:02d} min"


OPT = "opt.npz"
RESPLITS = "resplits"
STAGE = "stage.json"
"""Record of what a stage writes besides the records of others."""
OPT_BATCH = 4
"""Number of images on which Opt is iterated together, as long as the slowest of them takes."""


@dataclass(frozen=True)
class RowStages:
    """A row's stages as functions on their folders."""

    plan: RowPlan
    preset: PaperPreset
    cache: Cache
    collection: Collection
    distance: Distance
    compute: Compute

    @property
    def row(self) -> TableRow:
        """Row of the table whose stages these are."""
        return self.plan.row

    def images(self, folder: Path) -> None:
        """Read every image once, without writing anything."""
        self.collection.read_all()

    def predictor(self, folder: Path) -> None:
        """Train the network that is to be masked."""
        plan, images = self.preset.predictor, self.collection.images
        fit_predictor(
            images.part("train"),
            images.part("selection"),
            task=task_by_name(self.row.task),
            size=self.preset.size,
            out=folder,
            training=_training(plan),
            compute=self.compute,
            kind=self.row.network,
            width=plan.width,
            paper_form=plan.paper_form,
        )

    def triplets(self, folder: Path) -> None:
        """Run the network on all images."""
        predictor = NetworkPredictor.load(self.cache.folder(self.plan.predictor))
        write_triplets(
            self.collection.images,
            folder,
            task=predictor.task,
            predictor=predictor,
            population=self.collection.population,
            compute=self.compute,
        )

    def scorer(self, method: str, folder: Path) -> None:
        """Train the score network of a method."""
        data = self.data()
        any_distance = self._training_distance(method) is None
        fit_scorer(
            data.part("train"),
            selection=data.part("selection"),
            loss=FREE if any_distance else self.distance,
            out=folder,
            scorer=METHODS[method].scorer,
            network=NetworkOptions(
                module=None if METHODS[method].own_network else self._unet(method, data),
                per_channel=True,
                width=self.preset.scorer.width,
            ),
            training=_training(self.preset.scorer, None if any_distance else points(self.row, self.preset)),
            compute=self.compute,
        )

    def opt(self, folder: Path) -> None:
        """Compute the oracles, which are the same for all methods: sizes and distances, NaN where missing."""
        data = self.data()
        threshold = threshold_of(loss(self.distance), data.part("selection"))
        claim(folder / STAGE, {}, [OPT])
        write_arrays(folder / OPT, oracles(self.distance, data.part("test"), threshold, self.preset))

    def calibration(self, method: str, folder: Path) -> None:
        """Calibrate a method; write what a saved masker has, except the scorer."""
        data = self.data()
        masker = calibrate(
            self._scorer_with_selection(method, data.part("selection")),
            data.part("calibration"),
            threshold=THRESHOLD,
            loss=self.distance,
            promise=Promise(confidence=CONFIDENCE),
            family=self._family_name(method),
            compute=replace(self.compute, parts=folder / "parts"),
        )
        if main_process():
            write_stored(folder, masker.stored)

    def evaluation(self, method: str, folder: Path) -> None:
        """Evaluate a method on the test images, and over resplits."""
        claim(folder / STAGE, {}, [f"{RESPLITS}.npz"])
        data, masker = self.data(), self._masker(method)
        opt_sizes = read_arrays(self.cache.folder(self.plan.opt) / OPT)["opt_size"]
        test = data.part("test")
        evaluation = evaluate(masker, test, opt_sizes=opt_sizes)
        images = evaluation.images
        ease = images.unmasked_loss  # the same for all methods
        examples = examples_of(masker, test, images, ease, gain=-ease, releases={})
        resplits = resplit(masker, data.part("calibration"), test, self.preset.resplits, SEED, images)
        replace(evaluation, examples=examples).save(folder)
        write_arrays(folder / f"{RESPLITS}.npz", {"coverage": resplits.coverage, "size": resplits.size})
        write_json(folder / f"{RESPLITS}.json", resplits.summary())

    def data(self) -> Triplets:
        """Return the triplets of the row."""
        return Triplets.from_folder(self.cache.folder(self.plan.triplets))

    def _unet(self, method: str, data: Triplets) -> UNet:
        """Return a U-Net whose levels halve an image to one pixel, eight at most, as in the paper."""
        plan, first, score_head = (
            self.preset.scorer,
            data[0],
            head(METHODS[method].scorer, loss(self.distance)),
        )
        channels = len(first.y_hat)
        with seeded(SEED):
            return UNet(
                len(first.x) + channels,
                score_head.outputs(channels, per_channel=True),
                width=plan.width,
                levels=levels_for(self.preset.size),
                paper_form=plan.paper_form,
            ).start_at(score_head.start)

    def _training_distance(self, method: str) -> Distance | None:
        return None if METHODS[method].scorer == "quantile" else self.distance

    def _load_scorer(self, method: str) -> NetworkScorer:
        folder = self.cache.folder(self.plan.scorers[method])
        return load_scorer(folder, loss=self._training_distance(method))

    def _family_name(self, method: str) -> str:
        """Return the method's family, or the one of grey masks that suits its scorer."""
        return METHODS[method].family or head(METHODS[method].scorer, loss(self.distance)).family

    def _scorer_with_selection(self, method: str, selection: Triplets) -> NetworkScorer:
        """Return the scorer, with a selection record for this row's distance and the method's family."""
        scorer = self._load_scorer(method)
        family_name, record = self._family_name(method), scorer.selection
        row_loss = loss(self.distance)
        if record is not None and record.of.is_same(row_loss) and family_name in record.curves:
            return scorer
        families = [family(family_name, self.distance.exponent or 1.0)]
        count = points(self.row, self.preset) or GRID_POINTS
        return replace(scorer, selection=selection_record(scorer, selection, row_loss, families, count))

    def _masker(self, method: str) -> Masker:
        return load(
            self.cache.folder(self.plan.calibrations[method]),
            loss=self.distance,
            scorer=self._load_scorer(method),
        )


def _training(settings: TrainingSettings, grid_points: int | None = None) -> TrainingConfig:
    return TrainingConfig(
        epochs=settings.epochs,
        patience=settings.patience,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=SEED,
        grid_points=grid_points,
        resume=True,
    )


def threshold_of(loss_of_row: Loss, selection: Triplets) -> float:
    """Return the quantile of the unmasked loss on the selection images, as calibration finds it."""
    losses = [
        unmasked_loss(loss_of_row, batch).detach().double().cpu().numpy()
        for batch in map(_to_best_device, selection.batches(BATCH_SIZE))
    ]
    return float(np.quantile(np.concatenate(losses), QUANTILE))


def oracles(distance: Distance, test: Triplets, threshold: float, preset: PaperPreset) -> dict[str, Array]:
    """Return the threshold, and size and distance of Opt and the exact oracle on the test images.

    The paper's Opt is solved on all images for lp, else iterated on opt_images spread evenly over them.
    """
    n, exponent = len(test), distance.exponent
    iterated = np.linspace(0, n - 1, min(n, preset.opt_images)).round().astype(int)
    indices = np.arange(n) if exponent is not None else iterated
    size = BATCH_SIZE if exponent is not None else OPT_BATCH
    names = ("opt_size", "opt_distance", "exact_size", "exact_distance")
    sizes = {name: np.full(n, np.nan) for name in names}
    start = 0
    for batch in tracked(test.select(indices.tolist()).batches(size), "oracles", len(indices), len):
        batch_indices = indices[start : start + len(batch.names)]
        for name, values in _oracles(distance, _to_best_device(batch), threshold).items():
            sizes[name][batch_indices] = values
        start += len(batch_indices)
    return sizes | {"threshold": np.array(threshold), "computed": indices}


def _oracles(distance: Distance, batch: Batch, threshold: float) -> dict[str, Array]:
    row_loss, y_hat = loss(distance), batch.y_hat
    mask, reached = paper_oracle(distance, batch.truth(), y_hat, threshold, per_channel=True)
    sizes = {
        "opt_size": torch.where(reached, mask_size(mask), torch.nan),
        "opt_distance": loss_under(row_loss, mask, batch).double(),
    }
    exact_mask = row_loss.of_batch(batch, y_hat.shape[1]).oracle(threshold)
    if exact_mask is not None:
        sizes["exact_size"] = mask_size(exact_mask)
        sizes["exact_distance"] = loss_under(row_loss, exact_mask, batch).double()
    return {name: values.detach().cpu().numpy() for name, values in sizes.items()}


def _to_best_device(batch: Batch) -> Batch:
    return batch.to(best_device())


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
    devices = replace(compute, devices=compute.devices or "auto")
    setting = _Setting(name, paper_preset, split, cache, collections, distances, devices)
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
