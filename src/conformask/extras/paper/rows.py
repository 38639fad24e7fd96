"""A row at work: its stages with what they need, and its results once they are done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from conformask.arrays import Array, Distance
from conformask.background import Compute
from conformask.extras.paper.images import Collection
from conformask.extras.paper.settings import METHODS, Finished, PaperPreset, RowResult, TableRow
from conformask.extras.paper.stages import Cache, RowPlan
from conformask.images.triplets import Triplets
from conformask.losses.distances import distance as distance_by_name
from conformask.records.evaluation import Evaluation
from conformask.records.record import read_arrays, read_json

OPT = "opt.npz"
RESPLITS = "resplits"


@dataclass(frozen=True)
class Row:
    """A row of the table, its stages, and what all of them need."""

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

    def data(self) -> Triplets:
        """Return the triplets of the row."""
        return Triplets.from_folder(self.cache.folder(self.plan.triplets))

    def finished(self) -> Finished:
        """Read the results of the stages."""
        folders = {method: self.cache.folder(self.plan.evaluations[method]) for method in METHODS}
        evaluations = {method: Evaluation.load(folder) for method, folder in folders.items()}
        oracles = read_arrays(self.cache.folder(self.plan.opt) / OPT)
        result = RowResult(
            row=self.row,
            threshold=evaluations["mask"].card.threshold,
            methods=evaluations,
            opt_size=oracles["opt_size"],
            exact_size=oracles["exact_size"],
            exact_distance=oracles["exact_distance"],
            opt_distance=oracles["opt_distance"],
        )
        resplits = {method: _resplits(folder) for method, folder in folders.items()}
        return Finished(result, resplits, self.collection.counts())


def _resplits(folder: Path) -> Mapping[str, float | Array]:
    summary = read_json(folder / f"{RESPLITS}.json")
    return {
        **read_arrays(folder / f"{RESPLITS}.npz"),
        "law_mean": float(summary["law_mean"]),
        "law_std": float(summary["law_std"]),
        "measured": np.array(summary["first_five_measured"]),
    }


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
