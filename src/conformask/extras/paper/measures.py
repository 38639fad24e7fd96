"""The measures of a row: the oracles, and each method calibrated and evaluated."""

from dataclasses import replace
from pathlib import Path

from conformask.background import main_process
from conformask.extras.paper.oracles import oracles, threshold_of
from conformask.extras.paper.resplits import resplit
from conformask.extras.paper.rows import OPT, RESPLITS, Row
from conformask.extras.paper.scorers import family_name, scorer_with_selection, trained_scorer
from conformask.extras.paper.settings import CONFIDENCE, SEED, THRESHOLD
from conformask.losses import loss
from conformask.masker.calibrate import calibrate
from conformask.masker.evaluate import evaluate, examples_of
from conformask.masker.load import load
from conformask.masker.run_folder import write_stored
from conformask.promises.promise import Promise
from conformask.records.record import claim, read_arrays, write_arrays, write_json

STAGE = "stage.json"
"""Record of what a stage writes besides the records of others."""


def measure_oracles(row: Row, folder: Path) -> None:
    """Compute the oracles, which are the same for all methods: sizes and distances, NaN where missing."""
    data = row.data()
    threshold = threshold_of(loss(row.distance), data.part("selection"))
    claim(folder / STAGE, {}, [OPT])
    write_arrays(folder / OPT, oracles(row.distance, data.part("test"), threshold, row.preset))


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
        write_stored(folder, masker.stored)


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
