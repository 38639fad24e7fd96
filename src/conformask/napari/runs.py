"""Checks of a folder that was chosen as a run, before anything is computed."""

from pathlib import Path

from conformask.errors import ConformaskError
from conformask.masker.serialization import CALIBRATION, SCORER_FILES, read_promise

CHOOSE = "choose the folder that `conformask calibrate` or `masker.save` wrote"


def is_run(folder: Path) -> bool:
    """Return whether something was calibrated in this folder, or at least trained."""
    return any((folder / name).is_file() for name in (CALIBRATION, SCORER_FILES[0]))


def trouble_of(run: Path | None) -> str | None:
    """Return why masks cannot be made with this run, and what to do; None if they can, or without a run."""
    if run is None:
        return None
    if not run.is_dir():
        return f"{run} {'is not a folder' if run.exists() else 'does not exist'}: {CHOOSE}"
    if not is_run(run):
        return f"{run} is not a run, because it contains no {CALIBRATION}: {CHOOSE}"
    if not (run / CALIBRATION).is_file():
        return f"{run} is not calibrated: run `conformask calibrate {run} DATA --threshold ...` first"
    try:
        read_promise(run)
    except ConformaskError as error:
        return str(error)
    return None
