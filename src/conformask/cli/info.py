"""conformask info: show what a run folder contains and promises."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from conformask.cli.options import AsJson
from conformask.cli.output import facts, show, sizes_text
from conformask.errors import MismatchError, MissingFileError
from conformask.masker.serialization import read_promise
from conformask.records.curves import Selection
from conformask.storage.as_json import Json, read_json
from conformask.wording.numbers import rounded_share
from conformask.wording.scores import comparison_text

HELD = {
    "predictor": "predictor.json",
    "scorer": "scorer.json",
    "calibration": "calibration.json",
    "evaluation": "evaluation.json",
}
TRAINING = "training.json"
LOSS = {
    "over": "over",
    "window": "window, in pixels",
    "length": "window, as given",
    "tolerance": "tolerance",
    "region": "in the region alone",
}
"""Settings of a loss besides its distance, with their labels; shown if set."""
SHOWN = {
    "predictor": {"task": "task", "size": "image size"},
    "scorer": {
        "scorer": "scorer",
        "distance": "trained for",
        **LOSS,
        "channels": "channels of y_hat",
        "per_channel": "mask per channel",
        "sizes": "image sizes",
        "data_range": "data range",
        "x_range": "range of x",
    },
    "calibration": {
        "distance": "distance",
        **LOSS,
        "threshold": "threshold",
        "confidence": "confidence",
        "guarantee": "guarantee",
        "family": "family",
        "rule": "lambda",
        "exact": "",
        "n_calibration": "calibration images",
        "hidden": "hidden of their pixels",
        "population": "population",
        "calibrated": "calibrated",
        "network": "network",
        "fingerprint": "fingerprint",
    },
    "evaluation": {
        "promise": "",
        "n_test": "test images",
        "coverage": "coverage",
        "mask_size": "mask size",
        "mask_size_oracle": "oracle's mask size",
        "fingerprint": "",
    },
}
"""Keys to show from each file, with their labels; keys without a label appear in the JSON only."""
ABSENT = {
    "data_range": "by file type",
    "x_range": "as y_hat",
    "population": "new images like these",
    "network": "unknown",
}


def info(
    run: Path,
    /,
    *,
    fingerprint: Annotated[
        bool,
        Parameter(show_default=False, help="Print only the fingerprint of the masker, for the lab book."),
    ] = False,
    json: AsJson = False,
) -> None:
    """Show what a run folder contains and what it promises, without loading a network.

    Parameters
    ----------
    run
        A run folder or a saved masker.
    """
    if fingerprint:
        _, stored = read_promise(run)
        if not stored:
            raise MismatchError(
                f"{run} has no fingerprint, because conformask 0.1 saved it: calibrate it again"
            )
        show({"fingerprint": stored}, stored, as_json=json)
        return
    held = {name: read_json(run / file) for name, file in HELD.items() if (run / file).is_file()}
    if not held and not (run / TRAINING).is_file():
        files = ", ".join([*HELD.values(), TRAINING])
        raise MissingFileError(f"{run} is not a run folder: it contains none of {files}")
    promise, void = _promised(run) if "calibration" in held else (None, None)
    record = {
        name: {key: held[name].get(key) for key in keys} for name, keys in SHOWN.items() if name in held
    }
    comparison = Selection.load(run).comparison if (run / "selection.npz").is_file() else None
    rows = [row for name, part in record.items() for row in _rows(run / HELD[name], SHOWN[name], part)]
    show(
        {
            "run": str(run),
            "promise": promise,
            "void": void,
            "comparison": comparison and asdict(comparison),
            **record,
        },
        *([promise] if promise else []),
        facts(rows),
        *([] if comparison is None else [comparison_text(comparison)]),
        *([void] if void else _notes(record, promise, run)),
        as_json=json,
    )


def _rows(path: Path, shown: Mapping[str, str], part: Mapping[str, Json]) -> list[tuple[str, str]]:
    try:
        unset = {key for key in LOSS if part.get(key) is None or part[key] is False}
        return [
            (shown[key], _text(key, value)) for key, value in part.items() if shown[key] and key not in unset
        ]
    except (TypeError, ValueError) as error:
        raise MismatchError(
            f"{path} has contents that conformask does not write: copy the file again"
        ) from error


def _promised(run: Path) -> tuple[str | None, str | None]:
    """Return the promise, or the reason why there is none: a file that was not saved with the others."""
    try:
        return read_promise(run)[0].promise, None
    except MismatchError as error:
        return None, str(error)


def _notes(record: Mapping[str, Mapping[str, Json]], promise: str | None, run: Path) -> list[str]:
    notes = []
    if not {"predictor", "scorer"} & set(record):
        notes.append("Training is not finished: resume it with --resume.")
    if "scorer" in record and not promise:
        notes.append(f"Nothing is promised yet: conformask calibrate {run} DATA --threshold T")
    evaluated, now = record.get("evaluation"), record.get("calibration", {}).get("fingerprint")
    if evaluated and (evaluated["promise"], evaluated["fingerprint"]) != (promise, now):
        notes.append(f"The evaluation is about an earlier promise: repeat conformask evaluate {run} DATA")
    return notes


def _text(key: str, value: Any) -> str:
    if value is None:
        return ABSENT.get(key, "none")
    if key == "sizes":
        return sizes_text(value) if value else "any"
    if key == "hidden":
        return rounded_share(value)
    if isinstance(value, Mapping):
        return _text(key, value.get("lam", value.get("name")))
    if value == math.inf:
        return "inf: nothing needs hiding"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
