"""The measures of a row: oracles, which see the truth, and each method calibrated and evaluated."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from conformask.arrays import best_device
from conformask.background import main_process, tracked
from conformask.extras.paper import CONFIDENCE, QUANTILE, SEED, THRESHOLD
from conformask.extras.paper.resplits import resplit
from conformask.extras.paper.rows import (
    OPT,
    RESPLITS,
    Row,
    family_name,
    scorer_with_selection,
    trained_scorer,
)
from conformask.images.triplets import BATCH_SIZE, Triplets
from conformask.losses import AnyLoss, loss
from conformask.masker.calibrate import calibrate
from conformask.masker.evaluate import evaluate
from conformask.masker.load import load, write_calibration
from conformask.masker.measure import examples_of
from conformask.masks.critical import loss_under, mask_size, paper_oracle, unmasked_loss
from conformask.promises.promise import Promise
from conformask.records.record import claim, read_arrays, write_arrays, write_json

STAGE = "stage.json"
"""Record of what a stage writes besides the records of others."""
OPT_BATCH = 4
"""Number of images on which Opt is iterated together, as long as the slowest of them takes."""


def measure_oracles(row: Row, folder: Path) -> None:
    """Compute the oracles, which are the same for all methods: sizes and distances, NaN where missing.

    The paper's Opt is solved on all images for lp, else iterated on opt_images spread evenly over them.
    """
    data, distance, row_loss = row.data(), row.distance, loss(row.distance)
    threshold, test = threshold_of(row_loss, data.part("selection")), data.part("test")
    claim(folder / STAGE, {}, [OPT])
    n, size = len(test), BATCH_SIZE
    indices = np.arange(n)
    if distance.exponent is None:
        indices, size = np.linspace(0, n - 1, min(n, row.preset.opt_images)).round().astype(int), OPT_BATCH
    names = ("opt_size", "opt_distance", "exact_size", "exact_distance")
    values, start = {name: np.full(n, np.nan) for name in names}, 0
    for loaded in tracked(test.select(indices.tolist()).batches(size), "oracles", len(indices), len):
        batch = loaded.to(best_device())
        mask, reached = paper_oracle(distance, batch.truth(), batch.y_hat, threshold, per_channel=True)
        measured = {
            "opt_size": torch.where(reached, mask_size(mask), torch.nan),
            "opt_distance": loss_under(row_loss, mask, batch).double(),
        }
        exact_mask = row_loss.of_batch(batch, batch.y_hat.shape[1]).oracle(threshold)
        if exact_mask is not None:
            measured["exact_size"] = mask_size(exact_mask)
            measured["exact_distance"] = loss_under(row_loss, exact_mask, batch).double()
        places = indices[start : start + len(batch.names)]
        for name, of_batch in measured.items():
            values[name][places] = of_batch.detach().cpu().numpy()
        start += len(places)
    write_arrays(folder / OPT, values | {"threshold": np.array(threshold), "computed": indices})


def threshold_of(choice: AnyLoss, selection: Triplets) -> float:
    """Return the quantile of the unmasked loss on the selection images, as calibration finds it."""
    row_loss = loss(choice)
    losses = [
        unmasked_loss(row_loss, batch.to(best_device())).detach().double().cpu().numpy()
        for batch in selection.batches(BATCH_SIZE)
    ]
    return float(np.quantile(np.concatenate(losses), QUANTILE))


def calibrate_method(row: Row, method: str, folder: Path) -> None:
    """Calibrate a method; write what a saved masker has, except the scorer."""
    data = row.data()
    masker = calibrate(
        scorer_with_selection(row, method, data.part("selection")),
        data.part("calibration"),
        threshold=THRESHOLD,
        loss=row.distance,
        promise=Promise(confidence=CONFIDENCE),
        family=family_name(row, method),
        compute=replace(row.compute, parts=folder / "parts"),
    )
    if main_process():
        write_calibration(folder, masker)


def evaluate_method(row: Row, method: str, folder: Path) -> None:
    """Evaluate a method on the test images, and over resplits."""
    claim(folder / STAGE, {}, [f"{RESPLITS}.npz"])
    data, calibration = row.data(), row.cache.folder(row.plan.calibrations[method])
    masker = load(calibration, loss=row.distance, scorer=trained_scorer(row, method))
    opt_sizes = read_arrays(row.cache.folder(row.plan.opt) / OPT)["opt_size"]
    test = data.part("test")
    evaluation = evaluate(masker, test, opt_sizes=opt_sizes)
    images = evaluation.images
    ease = images.unmasked_loss  # the same for all methods
    examples = examples_of(masker, test, images, ease, gain=-ease, releases={})
    resplits = resplit(masker, data.part("calibration"), test, row.preset.resplits, SEED, images)
    replace(evaluation, examples=examples).save(folder)
    write_arrays(folder / f"{RESPLITS}.npz", {"coverage": resplits.coverage, "size": resplits.size})
    write_json(folder / f"{RESPLITS}.json", resplits.summary())
