"""The work of each stage of a row."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from conformask.arithmetic import best_device
from conformask.calibration import GRID_POINTS, loss_under, mask_size, unmasked_loss
from conformask.conformal.promise import Promise
from conformask.data.batches import BATCH_SIZE
from conformask.data.triplets import Triplets
from conformask.evaluation.evaluate import evaluate
from conformask.evaluation.examples import examples_of
from conformask.evaluation.resplits import resplit
from conformask.losses import loss
from conformask.masker.calibrate import calibrate
from conformask.masker.load import load
from conformask.masker.masker import Masker
from conformask.masker.serialization import write_stored
from conformask.masks import family
from conformask.networks.unet import UNet, levels_for
from conformask.oracle import oracle, paper_oracle
from conformask.paper.plan import FREE, RowPlan, points
from conformask.paper.settings import (
    CONFIDENCE,
    METHODS,
    QUANTILE,
    SEED,
    THRESHOLD,
    PaperPreset,
    TableRow,
    TrainingSettings,
)
from conformask.paper.sources import Collection
from conformask.paper.stages import Cache
from conformask.predictors.network_predictor import Accelerated
from conformask.predictors.regressor import fit_predictor
from conformask.preparation import write_triplets
from conformask.progress import main_process, tracked
from conformask.scorers.fit import fit_scorer
from conformask.scorers.heads import head
from conformask.scorers.initial_network import NetworkOptions
from conformask.scorers.network_scorer import NetworkScorer
from conformask.scorers.scoring import selection_record
from conformask.scorers.stored import load_scorer
from conformask.storage.as_arrays import Array, read_arrays, write_arrays
from conformask.storage.as_json import claim, write_json
from conformask.tasks import task as task_by_name
from conformask.training.fit import TrainingConfig, seeded
from conformask.training.processes import Compute
from conformask.types import Batch, Distance, Loss

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
        predictor = Accelerated.load(self.cache.folder(self.plan.predictor))
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
        if record is not None and record.of == row_loss.terms and family_name in record.curves:
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
    exact_mask = oracle(row_loss, batch, y_hat.shape[1], threshold)
    if exact_mask is not None:
        sizes["exact_size"] = mask_size(exact_mask)
        sizes["exact_distance"] = loss_under(row_loss, exact_mask, batch).double()
    return {name: values.detach().cpu().numpy() for name, values in sizes.items()}


def _to_best_device(batch: Batch) -> Batch:
    return batch.to(best_device())
