"""conformask recalibrate: another promise from stored curves, without reading any image."""

import warnings
from pathlib import Path

from conformask.cli.calibrate import show_calibration
from conformask.cli.options import MARGINAL, AsJson, Promised, Threshold, WeightsPath, loss_of
from conformask.cli.output import bad_usage
from conformask.errors import ConformaskWarning
from conformask.progress import main_process


def recalibrate(
    run: Path,
    /,
    *,
    threshold: Threshold = None,
    promise: Promised = MARGINAL,
    weights_path: WeightsPath = None,
    json: AsJson = False,
) -> None:
    """Change the promise of a run, from the curves that its calibration stored, in milliseconds.

    Terms that are not given stay as they are.

    Parameters
    ----------
    run
        A calibrated run folder.
    """
    from conformask.errors import MissingFileError
    from conformask.masker.load import load
    from conformask.records.card import CALIBRATION

    if threshold is None and promise == MARGINAL:
        bad_usage("give --threshold, --confidence, or another term of the promise to change")
    if not (run / CALIBRATION).is_file():
        raise MissingFileError(
            f"{run} has no calibration to change yet: conformask calibrate {run} DATA --threshold T"
        )
    masker = load(run, loss=loss_of(run, weights_path))
    level = None if threshold is None else masker.threshold_of(threshold)
    wanted = masker.card.promise.changed(**vars(promise))
    recalibrated = masker.recalibrate(threshold=level, promise=wanted)
    if level is not None and recalibrated.card.threshold < level:
        warnings.warn(
            f"{level:g} was lowered to the declared threshold {recalibrated.card.threshold:g}",
            category=ConformaskWarning,
            stacklevel=1,
        )
    if main_process():
        recalibrated = recalibrated.save(run)
    show_calibration(run, recalibrated, as_json=json)
