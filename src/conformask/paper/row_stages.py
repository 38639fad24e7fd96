"""The work of each stage of a row."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from conformask.arithmetic import best_device
from conformask.calibration import GRID_POINTS, loss_under, mask_size, unmasked_loss
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
from conformask.paper.settings import CONFIDENCE, METHODS, QUANTILE, SEED, THRESHOLD, PaperPreset, TableRow
from conformask.paper.sources import Collection
from conformask.paper.stages import Cache
from conformask.predictors.accelerated import Accelerated
from conformask.predictors.network_predictor import NetworkPredictor
from conformask.predictors.regressor import fit_predictor
from conformask.preparation import write_triplets
from conformask.progress import main_process, tracked
from conformask.scorers.fit import fit_scorer
from conformask.scorers.heads import head
from conformask.scorers.network_scorer import NetworkScorer
from conformask.scorers.selection import selection_record
from conformask.scorers.stored import load_scorer
from conformask.storage.as_arrays import read_arrays, write_arrays
from conformask.storage.as_json import claim, write_json
from conformask.tasks import task as task_by_name
from conformask.training.fit import TrainingConfig, seeded
from conformask.types import Array, Batch, Distance, Loss

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
    devices: str
    nodes: int

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
            plan=TrainingConfig(
                epochs=plan.epochs,
                patience=plan.patience,
                batch_size=plan.batch_size,
                learning_rate=plan.learning_rate,
                seed=SEED,
                devices=self.devices,
                nodes=self.nodes,
            ),
            kind=self.row.network,
            width=plan.width,
            paper_form=plan.paper_form,
            resume=True,
        )

    def triplets(self, folder: Path) -> None:
        """Run the network on all images."""
        trained = NetworkPredictor.load(self.cache.folder(self.plan.predictor))
        write_triplets(
            self.collection.images,
            folder,
            task=trained.task,
            predictor=Accelerated(trained),
            population=self.collection.population,
            devices=self.devices,
            nodes=self.nodes,
        )

    def scorer(self, method: str, folder: Path) -> None:
        """Train the score network of a method."""
        data = self.data()
        free = self._fitted_for(method) is None
        fit_scorer(
            data.part("train"),
            selection=data.part("selection"),
            distance=FREE if free else self.distance,
            out=folder,
            scorer=METHODS[method].scorer,
            per_channel=True,
            network=None if METHODS[method].own_network else self._unet(method, data),
            grid_points=(None if free else points(self.row, self.preset)) or GRID_POINTS,
            devices=self.devices,
            nodes=self.nodes,
            seed=SEED,
            resume=True,
            **asdict(replace(self.preset.scorer, paper_form=False)),
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
            self._scorer_about(method, data.part("selection")),
            data.part("calibration"),
            threshold=THRESHOLD,
            confidence=CONFIDENCE,
            family=METHODS[method].family,
            distance=self.distance,
            out=folder / "parts",
            devices=self.devices,
            nodes=self.nodes,
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
        ease = images.unmasked_distance  # the same for all methods
        shown = examples_of(masker, test, images, ease, gain=-ease)
        dealt = resplit(masker, data.part("calibration"), test, self.preset.resplits, SEED, images)
        replace(evaluation, examples=shown).save(folder)
        write_arrays(folder / f"{RESPLITS}.npz", {"coverage": dealt.coverage, "size": dealt.size})
        write_json(folder / f"{RESPLITS}.json", dealt.summary())

    def data(self) -> Triplets:
        """Return the triplets of the row."""
        return Triplets.from_folder(self.cache.folder(self.plan.triplets))

    def _unet(self, method: str, data: Triplets) -> UNet:
        """Return a U-Net whose levels halve an image to one pixel, eight at most, as in the paper."""
        plan, first, used_head = (
            self.preset.scorer,
            data[0],
            head(METHODS[method].scorer, loss(self.distance)),
        )
        channels = len(first.y_hat)
        with seeded(SEED):
            return UNet(
                len(first.x) + channels,
                used_head.outputs(channels, per_channel=True),
                width=plan.width,
                levels=levels_for(self.preset.size),
                paper_form=plan.paper_form,
            ).start_at(used_head.start)

    def _fitted_for(self, method: str) -> Distance | None:
        return None if METHODS[method].scorer == "quantile" else self.distance

    def _loaded(self, method: str) -> NetworkScorer:
        folder = self.cache.folder(self.plan.scorers[method])
        return load_scorer(folder, distance=self._fitted_for(method))

    def _scorer_about(self, method: str, selection: Triplets) -> NetworkScorer:
        """Return the scorer, with a selection record for this row's distance and the method's family."""
        scorer = self._loaded(method)
        chosen, record = METHODS[method].family or scorer.family, scorer.selection
        used = loss(self.distance)
        if record is not None and record.of == used.terms and chosen in record.curves:
            return scorer
        families = [family(chosen, self.distance.exponent or 1.0)]
        count = points(self.row, self.preset) or GRID_POINTS
        return replace(scorer, selection=selection_record(scorer, selection, used, families, count))

    def _masker(self, method: str) -> Masker:
        return load(
            self.cache.folder(self.plan.calibrations[method]),
            distance=self.distance,
            scorer=self._loaded(method),
        )


def threshold_of(used: Loss, selection: Triplets) -> float:
    """Return the quantile of the unmasked loss on the selection images, as calibration finds it."""
    losses = [
        unmasked_loss(used, batch).detach().double().cpu().numpy()
        for batch in map(_placed, selection.batches(BATCH_SIZE))
    ]
    return float(np.quantile(np.concatenate(losses), QUANTILE))


def oracles(distance: Distance, test: Triplets, threshold: float, preset: PaperPreset) -> dict[str, Array]:
    """Return the threshold, and size and distance of Opt and the exact oracle on the test images.

    The paper's Opt is solved on all images for lp, else iterated on opt_images spread evenly over them.
    """
    n, exponent = len(test), distance.exponent
    some = np.linspace(0, n - 1, min(n, preset.opt_images)).round().astype(int)
    places = np.arange(n) if exponent is not None else some
    size = BATCH_SIZE if exponent is not None else OPT_BATCH
    names = ("opt_size", "opt_distance", "exact_size", "exact_distance")
    sizes = {name: np.full(n, np.nan) for name in names}
    start = 0
    for batch in tracked(test.select(places.tolist()).batches(size), "oracles", len(places), len):
        at = places[start : start + len(batch.names)]
        for name, values in _oracles(distance, _placed(batch), threshold).items():
            sizes[name][at] = values
        start += len(at)
    return sizes | {"threshold": np.array(threshold), "computed": places}


def _oracles(distance: Distance, batch: Batch, threshold: float) -> dict[str, Array]:
    used, y_hat = loss(distance), batch.y_hat
    mask, reached = paper_oracle(distance, batch.truth(), y_hat, threshold, per_channel=True)
    sizes = {
        "opt_size": torch.where(reached, mask_size(mask), torch.nan),
        "opt_distance": loss_under(used, mask, batch).double(),
    }
    exact = oracle(used, batch, y_hat.shape[1], threshold)
    if exact is not None:
        sizes["exact_size"] = mask_size(exact)
        sizes["exact_distance"] = loss_under(used, exact, batch).double()
    return {name: values.detach().cpu().numpy() for name, values in sizes.items()}


def _placed(batch: Batch) -> Batch:
    return batch.to(best_device())
