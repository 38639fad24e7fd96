"""The stages of the rows, their true images, and the folders that they leave."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from conformask.arrays import Distance
from conformask.background import main_process, tracked
from conformask.errors import ConformaskError, InvalidArgumentError
from conformask.extras.make.tasks import task as task_by_name
from conformask.extras.make.triplets import TrueImages, population_of
from conformask.extras.paper.settings import (
    CONFIDENCE,
    METHODS,
    QUANTILE,
    ROWS,
    SEED,
    Counts,
    Method,
    PaperPreset,
    TableRow,
)
from conformask.images.read import list_images
from conformask.images.rows import PARTS, uniform
from conformask.losses import loss
from conformask.losses.distances import distance as distance_by_name
from conformask.records.files import hash_of_text
from conformask.records.record import Json, hash_of, read_json, write_json
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
            self._finish(stage, time.monotonic() - start)
        self._await(folder / DONE)
        return folder

    def _finish(self, stage: Stage, seconds: float) -> None:
        if main_process():
            record = {"stage": stage.name, "kind": stage.kind, "settings": stage.settings}
            write_json(self.folder(stage) / DONE, record | {"seconds": round(seconds, 2)})

    @staticmethod
    def _await(path: Path) -> None:
        """Wait for a file of the first process, as long as the process that started this one lives."""
        parent = os.getppid()
        while not path.is_file():
            # a process whose parent died gets another one: nobody would write the file
            if os.getppid() != parent:
                raise ConformaskError("the first process has ended")
            time.sleep(POLL_SECONDS)


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
    row_settings: dict[str, Json] = {"task": row.task, "data": row.data, "network": row.network}
    predictor = Stage(
        "predictor",
        network,
        {**row_settings, "size": preset.size, "seed": SEED, **asdict(preset.predictor)},
        (images,),
        TRAINING,
    )
    triplets = Stage("triplets", network, row_settings, (predictor,))
    scorers = {name: _scorer(method, row, preset, network, triplets) for name, method in METHODS.items()}
    cost = COSTS.get(row.distance, 5.0)
    measure_settings: dict[str, Json] = {"distance": row.distance, "data": row.data}
    opt = Stage(
        "opt",
        f"{network}-{row.distance}",
        {**measure_settings, "quantile": QUANTILE, "images": preset.opt_images},
        (triplets,),
        2 * cost,
    )
    calibration_settings = {
        **measure_settings,
        "confidence": CONFIDENCE,
        "quantile": QUANTILE,
        "points": points(row, preset),
    }
    calibrations = {
        method: Stage(
            "calibration",
            f"{network}-{row.distance}-{method}",
            {**calibration_settings, "family": METHODS[method].family},
            (scorer,),
            cost,
        )
        for method, scorer in scorers.items()
    }
    evaluation_settings = {**measure_settings, "resplits": preset.resplits, "seed": SEED}
    evaluations = {
        method: Stage(
            "evaluation", f"{network}-{row.distance}-{method}", evaluation_settings, (stage, opt), cost
        )
        for method, stage in calibrations.items()
    }
    return RowPlan(row, images, predictor, triplets, scorers, opt, calibrations, evaluations)


def _scorer(method: Method, row: TableRow, preset: PaperPreset, network: str, triplets: Stage) -> Stage:
    any_distance = method.scorer == "quantile"
    scorer = head(method.scorer, loss(row.distance)).name
    distance = FREE if any_distance else row.distance
    settings: dict[str, Json] = {
        "scorer": scorer, "distance": distance, "per_channel": True, "seed": SEED, "data": row.data,
        "points": None if any_distance else points(row, preset), **asdict(preset.scorer),
    }  # fmt: skip
    name = f"{network}-{distance}-{scorer}"
    if method.own_network:
        name, settings = f"{name}-own", {**settings, "network": "own"}
    expected = TRAINING + COSTS.get(distance, 0.0) / 3
    return Stage("scorer", name, settings, (triplets,), expected)


def points(row: TableRow, preset: PaperPreset) -> int | None:
    """Return the grid points of curves that are measured mask by mask; None for the default of lp."""
    return {"ssim": preset.ssim_points, "lpips": preset.lpips_points}.get(row.distance)


SPLITS: Mapping[str, str] = {"within": "within", "paper": "paper"}
"""Splits of the tiles of the cells: whole fields kept for training, or all at random as in the paper."""


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
        return Stage("images", data, {**self.settings, "data": data, "files": self.files}, (), 10.0)

    def counts(self) -> dict[str, int]:
        """Return the number of images in each part."""
        return _counts(self.images)

    def read_all(self) -> None:
        """Decode every image."""
        for _ in tracked(self.images, "reading every image", len(self.images)):
            pass


def rows_of(numbers: Sequence[int] | None) -> tuple[TableRow, ...]:
    """Return the rows with these numbers, all if None."""
    by_number = {row.number: row for row in ROWS}
    row_numbers = list(by_number) if numbers is None else list(dict.fromkeys(numbers))
    unknown_numbers = [number for number in row_numbers if number not in by_number]
    if unknown_numbers or not row_numbers:
        numbers_text = ", ".join(map(str, unknown_numbers)) or "none"
        raise InvalidArgumentError(
            f"rows: {numbers_text}; the table has rows {min(by_number)} to {max(by_number)}"
        )
    return tuple(by_number[number] for number in sorted(row_numbers))


def collections_of(
    rows: Sequence[TableRow], preset: PaperPreset, folders: Mapping[str, Path | None], split: str
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
        collections[data] = _collection(data, folder, preset, split)
        for row in data_rows:
            task_by_name(row.task).truth(
                torch.zeros(1, collections[data].images.channels, *[preset.size] * 2)
            )
    return collections


def distances_of(
    rows: Sequence[TableRow], preset: PaperPreset, weights_path: Path | None
) -> dict[str, Distance]:
    """Return the distances that the rows need, each tried once."""
    distances = {}
    for name in dict.fromkeys(row.distance for row in rows):
        distances[name] = distance_by_name(name, weights_path if name == "lpips" else None)
        zeros = torch.zeros(1, 1, preset.size, preset.size)
        distances[name](zeros, zeros)
    return distances


def _collection(data: str, folder: Path, preset: PaperPreset, split: str) -> Collection:
    stride = preset.stride if data == "cells" else None
    split_name = SPLITS[split] if stride is not None else "file"
    counts: Counts = getattr(preset, data)
    all_images = TrueImages.from_folder(folder, preset.size, stride, split_name, SEED, colour=True)
    images = limit_parts(all_images, counts)
    _check_counts(data, folder, images, preset.needed)
    settings: dict[str, Json] = {
        "size": preset.size, "stride": stride, "split": split_name, "seed": SEED, "counts": asdict(counts),
    }  # fmt: skip
    return Collection(images, _hash_of_files(folder), settings, population_of(stride, split_name))


def limit_parts(images: TrueImages, counts: Counts) -> TrueImages:
    """Limit each part to its number of images, chosen by hash of their names, in the original order."""
    indices: list[int] = []
    for part, limit in asdict(counts).items():
        part_indices = [index for index, source in enumerate(images.sources) if source.part == part]
        part_indices.sort(key=lambda index: uniform(SEED, "limit", images.sources[index].name))
        indices += part_indices[:limit]
    return images.select(sorted(indices))


def _check_counts(data: str, folder: Path, images: TrueImages, needed: Counts) -> None:
    counts = _counts(images)
    if any(counts[part] < least for part, least in asdict(needed).items()):
        counts_text = ", ".join(f"{counts[part]} of {asdict(needed)[part]} {part}" for part in PARTS)
        raise InvalidArgumentError(
            f"{folder} has too few images for --{data} with this preset: {counts_text} images (found of "
            "needed); add images, or choose a smaller preset"
        )


def _counts(images: TrueImages) -> dict[str, int]:
    parts = [source.part for source in images.sources]
    return {part: parts.count(part) for part in PARTS}


def _hash_of_files(folder: Path) -> str:
    files = list_images(folder, recursive=True)
    lines = (f"{path.relative_to(folder)}\0{path.stat().st_size}\n" for path in files)
    return hash_of_text("".join(lines))[:16]
