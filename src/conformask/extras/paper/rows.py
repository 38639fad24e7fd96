"""A row at work: its stages with what they need, its score networks, and its results once they are done."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from conformask.arrays import Array, Distance, seeded
from conformask.background import Compute
from conformask.extras.paper import METHODS, SEED, Finished, PaperPreset, RowResult, TableRow
from conformask.extras.paper.stages import FREE, Cache, Collection, RowPlan, points
from conformask.extras.train import NetworkOptions
from conformask.extras.train.fit import fit_scorer
from conformask.images.triplets import Triplets
from conformask.losses import loss
from conformask.masks.families import family
from conformask.records.evaluation import Evaluation
from conformask.records.loss import is_same
from conformask.records.record import read_arrays, read_json
from conformask.scores.network_scorer import NetworkScorer, head, load_scorer
from conformask.scores.networks import UNet, levels_for
from conformask.scores.scoring import selection_record

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


def train_scorer(row: Row, method: str, folder: Path) -> None:
    """Train the score network of a method."""
    data, settings, distance = row.data(), row.preset.scorer, _training_distance(row, method)
    fit_scorer(
        data.part("train"),
        selection=data.part("selection"),
        loss=distance or FREE,
        out=folder,
        scorer=METHODS[method].scorer,
        network=NetworkOptions(
            module=None if METHODS[method].own_network else _unet(row, method, data),
            per_channel=True,
            width=settings.width,
        ),
        training=settings.config(points(row.row, row.preset) if distance else None),
        compute=row.compute,
    )


def _unet(row: Row, method: str, data: Triplets) -> UNet:
    """Return a U-Net whose levels halve an image to one pixel, eight at most, as in the paper."""
    first, score_head = data[0], head(METHODS[method].scorer, loss(row.distance))
    channels = len(first.y_hat)
    with seeded(SEED):
        return UNet(
            len(first.x) + channels,
            score_head.outputs(channels, per_channel=True),
            width=row.preset.scorer.width,
            levels=levels_for(row.preset.size),
            paper_form=row.preset.scorer.paper_form,
        ).start_at(score_head.start)


def _training_distance(row: Row, method: str) -> Distance | None:
    """Return the distance that a method is trained for; Quantile is trained for none."""
    return None if METHODS[method].scorer == "quantile" else row.distance


def trained_scorer(row: Row, method: str) -> NetworkScorer:
    """Load the score network of a method."""
    return load_scorer(row.cache.folder(row.plan.scorers[method]), loss=_training_distance(row, method))


def family_name(row: Row, method: str) -> str:
    """Return the method's family, or the one of grey masks that suits its scorer."""
    return METHODS[method].family or head(METHODS[method].scorer, loss(row.distance)).family


def scorer_with_selection(row: Row, method: str, selection: Triplets) -> NetworkScorer:
    """Return the scorer, with a selection record for this row's distance and the method's family."""
    scorer, name, row_loss = trained_scorer(row, method), family_name(row, method), loss(row.distance)
    record = scorer.selection
    if record is not None and is_same(record.of, row_loss) and name in record.curves:
        return scorer
    families = [family(name, row.distance.exponent or 1.0)]
    count = points(row.row, row.preset)
    return replace(scorer, selection=selection_record(scorer, selection, row_loss, families, count))
