"""The images of the rows, the stages of their work, and the folders that these leave."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from conformask.background import Compute, main_process, tracked
from conformask.errors import ConformaskError, InvalidArgumentError
from conformask.extras.make.predictors import NetworkPredictor
from conformask.extras.make.regressor import fit_predictor
from conformask.extras.make.tasks import task as task_by_name
from conformask.extras.make.triplets import TrueImages, population_of, write_triplets
from conformask.extras.paper import CONFIDENCE, METHODS, QUANTILE, SEED, Counts, PaperPreset, TableRow
from conformask.images.read import list_images
from conformask.images.rows import PARTS, uniform
from conformask.losses import loss
from conformask.records.record import Json, hash_of, hash_of_text, read_json, write_json
from conformask.scores.network_scorer import head

VERSION = 2
"""Version of the stages, increased when a stage computes something else from the same settings."""
DONE = "done.json"
TOGETHER = ("predictor", "triplets", "scorer", "calibration")
"""Kinds of stages that several processes work on together, and that resume where they stopped."""
POLL_SECONDS = 0.5


@dataclass(frozen=True, eq=False)
class Stage:
    """One piece of work: the settings that decide its result, and the stages that it depends on."""

    kind: str
    name: str
    """Name for people; folders are distinguished by the fingerprint."""
    settings: Mapping[str, Json] = field(default_factory=dict)
    needs: tuple["Stage", ...] = ()
    method: str = ""
    """Method of the table, of which it is a stage; one of them, where several share it."""
    expected: float = 5.0
    """Seconds that it may take, before any similar stage was measured."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash that changes with the settings of this stage, or of one that it depends on."""
        parts = [VERSION, self.kind, self.settings, [stage.fingerprint for stage in self.needs]]
        return hash_of(parts)[:12]

    @property
    def folder(self) -> str:
        """Name of the stage's folder."""
        return f"{self.kind}-{self.name}-{self.fingerprint}"

    @property
    def likeness(self) -> str:
        """Key of similar stages, which take about the same time."""
        return f"{self.kind} {self.settings.get('distance', '')} {self.settings.get('data', '')}"


@dataclass(frozen=True)
class Cache:
    """Folder of finished stages; a stage is done when its folder holds done.json."""

    root: Path

    def folder(self, stage: Stage) -> Path:
        """Return the folder of a stage's results."""
        return self.root / stage.folder

    def done(self, stage: Stage) -> bool:
        """Return whether a stage is finished."""
        return (self.folder(stage) / DONE).is_file()

    def missing(self, goals: Iterable[Stage]) -> list[Stage]:
        """Return the stages left to run for these goals, in order; a finished stage may lack its needs."""
        return unique(goals, self.done)

    def seconds(self, stage: Stage) -> float | None:
        """Return the seconds that a stage took; None if it is not done."""
        return float(read_json(self.folder(stage) / DONE)["seconds"]) if self.done(stage) else None

    def run(self, stage: Stage, make: Callable[[Path], None]) -> Path:
        """Run a stage unless it is done, and return its folder.

        Killed stages of the kinds TOGETHER resume where they stopped, others start over. Of several processes
        all run these kinds, and the first runs the rest.
        """
        folder = self.folder(stage)
        if self.done(stage):
            return folder
        if main_process() or stage.kind in TOGETHER:
            start = time.monotonic()
            make(folder)
            if main_process():
                record = {"stage": stage.name, "kind": stage.kind, "settings": stage.settings}
                write_json(folder / DONE, record | {"seconds": round(time.monotonic() - start, 2)})
        parent = os.getppid()
        while not self.done(stage):  # the first process writes the record
            # a process whose parent died gets another one: nobody would write the file
            if os.getppid() != parent:
                raise ConformaskError("the first process has ended")
            time.sleep(POLL_SECONDS)
        return folder


def unique(stages: Iterable[Stage], is_omitted: Callable[[Stage], bool] = lambda _: False) -> list[Stage]:
    """Return each stage after its dependencies, once; omit those left out, and what only they depend on."""
    ordered: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        if stage.fingerprint not in ordered and not is_omitted(stage):
            for need in stage.needs:
                add(need)
            ordered[stage.fingerprint] = stage

    for stage in stages:
        add(stage)
    return list(ordered.values())


FREE = "l1"
"""Distance of the selection record of Quantile, which is trained for no distance."""
COSTS: Mapping[str, float] = {"ssim": 40.0, "lpips": 100.0}
"""Seconds of measuring with a distance, if nothing was measured yet."""
TRAINING = 60.0
"""Seconds of training a network, if none was trained yet."""


@dataclass(frozen=True)
class RowPlan:
    """The stages of a row."""

    row: TableRow
    images: Stage
    predictor: Stage
    triplets: Stage
    scorers: Mapping[str, Stage]
    opt: Stage
    calibrations: Mapping[str, Stage]
    evaluations: Mapping[str, Stage]

    def goals(self) -> tuple[Stage, ...]:
        """Return the stages whose results go into the table and the figures."""
        return (self.opt, *self.evaluations.values())

    def stages(self) -> list[Stage]:
        """Return all stages of the row, in an order in which they can be run."""
        return unique(self.goals())


def plan_row(row: TableRow, preset: PaperPreset, images: Stage) -> RowPlan:
    """Return the stages of a row on these images; rows with the same network share its stages."""
    network = f"{row.task}-{row.data}-{row.network}"
    of_network: dict[str, Json] = {"task": row.task, "data": row.data, "network": row.network}
    of_distance: dict[str, Json] = {"distance": row.distance, "data": row.data}
    cost = COSTS.get(row.distance, 5.0)
    trained = {**of_network, "size": preset.size, "seed": SEED, **asdict(preset.predictor)}
    predictor = Stage("predictor", network, trained, (images,), expected=TRAINING)
    triplets = Stage("triplets", network, of_network, (predictor,))
    opt = Stage(
        "opt",
        f"{network}-{row.distance}",
        {**of_distance, "quantile": QUANTILE, "images": preset.opt_images},
        (triplets,),
        expected=2 * cost,
    )
    scorers, calibrations, evaluations = {}, {}, {}
    for method in METHODS:
        name = f"{network}-{row.distance}-{method}"
        scorers[method] = _scorer(method, row, preset, network, triplets)
        calibrated = {
            **of_distance, "confidence": CONFIDENCE, "quantile": QUANTILE, "points": points(row, preset),
            "family": METHODS[method].family,
        }  # fmt: skip
        calibrations[method] = Stage("calibration", name, calibrated, (scorers[method],), method, cost)
        evaluated = {**of_distance, "resplits": preset.resplits, "seed": SEED}
        evaluations[method] = Stage("evaluation", name, evaluated, (calibrations[method], opt), method, cost)
    return RowPlan(row, images, predictor, triplets, scorers, opt, calibrations, evaluations)


def _scorer(method: str, row: TableRow, preset: PaperPreset, network: str, triplets: Stage) -> Stage:
    any_distance = METHODS[method].scorer == "quantile"
    scorer = head(METHODS[method].scorer, loss(row.distance)).name
    distance = FREE if any_distance else row.distance
    settings: dict[str, Json] = {
        "scorer": scorer, "distance": distance, "per_channel": True, "seed": SEED, "data": row.data,
        "points": None if any_distance else points(row, preset), **asdict(preset.scorer),
    }  # fmt: skip
    name = f"{network}-{distance}-{scorer}"
    if METHODS[method].own_network:
        name, settings = f"{name}-own", {**settings, "network": "own"}
    expected = TRAINING + COSTS.get(distance, 0.0) / 3
    return Stage("scorer", name, settings, (triplets,), method, expected)


def points(row: TableRow, preset: PaperPreset) -> int | None:
    """Return the grid points of curves that are measured mask by mask; None for the default of lp."""
    return {"ssim": preset.ssim_points, "lpips": preset.lpips_points}.get(row.distance)


@dataclass(frozen=True)
class Collection:
    """True images of one kind, assigned to the four parts."""

    images: TrueImages
    files: str
    """Hash of the names and sizes of their files."""
    settings: Mapping[str, Json]
    population: str | None

    def stage(self, data: str) -> Stage:
        """Return the stage in which every image is read once."""
        return Stage("images", data, {**self.settings, "data": data, "files": self.files}, expected=10.0)

    def counts(self) -> dict[str, int]:
        """Return the number of images in each part."""
        parts = [source.part for source in self.images.sources]
        return {part: parts.count(part) for part in PARTS}

    def read_all(self) -> None:
        """Decode every image."""
        for _ in tracked(self.images, "reading every image", len(self.images)):
            pass

    def train_predictor(self, row: TableRow, preset: PaperPreset, compute: Compute, folder: Path) -> None:
        """Train the network that is to be masked."""
        fit_predictor(
            self.images.part("train"),
            self.images.part("selection"),
            task=task_by_name(row.task),
            size=preset.size,
            out=folder,
            training=preset.predictor.config(),
            compute=compute,
            kind=row.network,
            width=preset.predictor.width,
            paper_form=preset.predictor.paper_form,
        )

    def write_triplets(self, predictor_folder: Path, compute: Compute, folder: Path) -> None:
        """Run the network on all images."""
        predictor = NetworkPredictor.load(predictor_folder)
        write_triplets(
            self.images,
            folder,
            task=predictor.task,
            predictor=predictor,
            population=self.population,
            compute=compute,
        )


def collections_of(
    rows: Sequence[TableRow], preset: PaperPreset, folders: Mapping[str, str | Path | None], split: str
) -> dict[str, Collection]:
    """Return the images that the rows need."""
    collections = {}
    for data in dict.fromkeys(row.data for row in rows):
        data_rows = [row for row in rows if row.data == data]
        folder = folders.get(data)
        if folder is None:
            rows_text = ", ".join(str(row.number) for row in data_rows)
            raise InvalidArgumentError(
                f"rows {rows_text} need --{data}, a folder of images: give one, or choose other --rows"
            )
        collections[data] = _collection(data, Path(folder), preset, split)
        for row in data_rows:
            task_by_name(row.task).truth(
                torch.zeros(1, collections[data].images.channels, *[preset.size] * 2)
            )
    return collections


def _collection(data: str, folder: Path, preset: PaperPreset, split: str) -> Collection:
    stride, split = (preset.stride, split) if data == "cells" else (None, "file")
    counts = preset.cells if data == "cells" else preset.photos
    images = limit_parts(
        TrueImages.from_folder(folder, preset.size, stride, split, SEED, colour=True), counts
    )
    settings: dict[str, Json] = {
        "size": preset.size, "stride": stride, "split": split, "seed": SEED, "counts": asdict(counts),
    }  # fmt: skip
    lines = (
        f"{path.relative_to(folder)}\0{path.stat().st_size}\n" for path in list_images(folder, recursive=True)
    )
    files = hash_of_text("".join(lines))[:16]
    collection = Collection(images, files, settings, population_of(stride, split))
    found, needed = collection.counts(), asdict(preset.needed)
    if any(found[part] < needed[part] for part in PARTS):
        counts_text = ", ".join(f"{found[part]} of {needed[part]} {part}" for part in PARTS)
        raise InvalidArgumentError(
            f"{folder} has too few images for --{data} with this preset: {counts_text} images (found of "
            "needed); add images, or choose a smaller preset"
        )
    return collection


def limit_parts(images: TrueImages, counts: Counts) -> TrueImages:
    """Limit each part to its number of images, chosen by hash of their names, in the original order."""
    indices: list[int] = []
    for part, limit in asdict(counts).items():
        part_indices = [index for index, source in enumerate(images.sources) if source.part == part]
        part_indices.sort(key=lambda index: uniform(SEED, "limit", images.sources[index].name))
        indices += part_indices[:limit]
    return images.select(sorted(indices))
