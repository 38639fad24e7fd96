"""conformask info: what a run folder holds and promises."""

from pathlib import Path

from conformask.cli.options import AsJson
from conformask.cli.output import show, table
from conformask.errors import MissingFileError
from conformask.results import CalibrationCard, read_json

HELD = {
    "predictor": "predictor.json",
    "training": "training.json",
    "scorer": "scorer.json",
    "calibration": "calibration.json",
    "evaluation": "evaluation.json",
}
SHOWN = {
    "predictor": ("task", "size"),
    "scorer": ("scorer", "distance", "channels", "per_channel", "sizes", "data_range"),
    "calibration": (
        "threshold", "confidence", "guarantee", "family", "rule", "exact", "n_calibration", "population",
        "calibrated",
    ),
    "evaluation": ("coverage", "mask_size", "mask_size_oracle", "n_test"),
}  # fmt: skip


def info(run: Path, *, json: AsJson = False) -> None:
    """Say what a run folder holds and what it promises, without loading a network.

    Parameters
    ----------
    run
        A run folder or a saved masker.
    """
    held = {name: read_json(run / file) for name, file in HELD.items() if (run / file).is_file()}
    if not held:
        raise MissingFileError(f"{run} holds no run: expected one of {', '.join(HELD.values())}")
    record = {
        name: {key: held[name].get(key) for key in keys} for name, keys in SHOWN.items() if name in held
    }
    promise = CalibrationCard.load(run).promise if "calibration" in held else None
    rows = [(f"{name}.{key}", str(value)) for name, part in record.items() for key, value in part.items()]
    drawn = table(str(run), ("", ""), rows)
    drawn.columns[-1].justify = "left"
    show(
        {"run": str(run), "promise": promise, **record},
        promise or "nothing is promised yet",
        drawn,
        as_json=json,
    )
