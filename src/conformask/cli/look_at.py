"""The verbs check and info: triplets before hours of work, and what a run folder promises."""

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from conformask.cli.options import AS_FILES_SAY, AsJson, Read, opened
from conformask.cli.output import bad_usage, facts, show, sizes_text
from conformask.errors import MismatchError, MissingFileError
from conformask.masker.remarks import remarks_on_run
from conformask.masker.run_folder import read_promise
from conformask.records.loss import StatedLoss
from conformask.records.numbers import plural, rounded_share
from conformask.records.record import Json, read_json
from conformask.records.selection import Selection
from conformask.records.upgrade import with_loss, with_promise
from conformask.records.words import comparison_text, judged_text

if TYPE_CHECKING:
    from conformask.images.check import CheckReport

MOST = 5
"""Largest number of spacings or orientations to list."""


def check(
    data: Path,
    /,
    *,
    confidence: float = 0.9,
    noise_plot: Path | None = None,
    read: Read = AS_FILES_SAY,
    json: AsJson = False,
) -> None:
    """Read every triplet; check pairs, shapes, ranges, duplicates across parts, the number of images.

    Parameters
    ----------
    data
        A folder with x/, y_hat/ and, where the truth is known, y/, or else repeats/; or a manifest.csv.
    confidence
        The confidence that you plan to ask for.
    noise_plot
        Where to draw the variance of the noise of repeats against their mean, an SVG file.
    """
    from conformask.images.check import check_triplets
    from conformask.promises.promise import Promise
    from conformask.records.record import SVG_SIGNATURE, atomic_write, check_output
    from conformask.records.words import network_label

    needed = Promise("marginal", confidence).smallest_calibration_set(None, None)
    if noise_plot is not None:
        check_output(noise_plot)
    findings = check_triplets(opened(data, read), needed)
    if noise_plot is not None:
        plot = next((each.plot for each in findings.of_layers if each.plot is not None), None)
        if plot is None:
            bad_usage(f"--noise-plot needs two repeats of each image in {data}: repeats/NAME_1 and NAME_2")
        with atomic_write(noise_plot) as aside:
            aside.write_text(f"{SVG_SIGNATURE}\n{plot()}", encoding="utf-8")
    parts = ", ".join(f"{count} {part}" for part, count in findings.parts.items())
    patients = "" if findings.patients is None else str(findings.patients)
    rows = [
        (
            "triplets",
            str(findings.n) + (f" in {plural(findings.groups, 'group')}" * (findings.groups < findings.n)),
        ),
        (findings.reference.noun, _reference_text(findings)),
        ("regions", "promises are about them alone" * findings.has_regions),
        ("channels", f"x {findings.x_channels}, y_hat {findings.channels}"),
        ("sizes", sizes_text(findings.sizes)),
        ("spacing", _counts_text(findings.spacings)),
        ("orientation", _counts_text(findings.orientations)),
        ("patients", patients),
        ("mean |y - y_hat|", _errors_text(findings)),
        *(row for each in findings.of_layers for row in each.rows),
        ("y_hat made by", network_label(findings.network)),
        ("parts", parts or "not split: each verb uses all of them for its own purpose"),
    ]
    verdict = [f"warning: {warning}" for warning in findings.warnings] or ["No problems found."]
    fields = {name: value for name, value in vars(findings).items() if name not in ("of_layers", "warnings")}
    for each in findings.of_layers:
        fields |= each.fields
    fields |= {"warnings": findings.warnings}
    known = [row for row in rows if row[1]]
    show({"data": str(data), **fields}, facts(known), *verdict, as_json=json)


def _reference_text(findings: "CheckReport") -> str:
    if not findings.reference.is_noisy:
        return "known" if findings.has_truth else "unknown: only conformask mask can use them"
    shares = "promises about shares with --loss l2 --over clean"
    if findings.reference.formula is None:
        shares += " only with --noise-model or a second repeat"
    return f"{findings.reference.text}: {shares}, about means with --guarantee expected or rcps"


def _counts_text(counts: Mapping[str, int]) -> str:
    """Return the values with their counts; a single value without its count; empty without any."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} ({count})" for value, count in list(counts.items())[:MOST])


def _errors_text(findings: "CheckReport") -> str:
    if findings.mean_error is None or findings.error_quantiles is None:
        return "unknown"
    low, middle, high = findings.error_quantiles
    worst = "" if findings.worst is None else f"; most on {findings.worst}"
    return (
        f"{findings.mean_error:.4f}; by image {low:.4f} (10 %), {middle:.4f} (half), {high:.4f} (90 %){worst}"
    )


HELD = {
    "predictor": "predictor.json",
    "scorer": "scorer.json",
    "calibration": "calibration.json",
    "evaluation": "evaluation.json",
}
TRAINING = "training.json"
SHOWN = {
    "predictor": {"task": "task", "size": "image size"},
    "scorer": {
        "scorer": "scorer",
        "loss": "trained for",
        "channels": "channels of y_hat",
        "per_channel": "mask per channel",
        "sizes": "image sizes",
        "data_range": "data range",
        "x_range": "range of x",
    },
    "calibration": {
        "loss": "loss",
        "threshold": "threshold",
        "promise": "promise",
        "family": "masks",
        "rule": "lambda",
        "level": "level",
        "exact": "",
        "n_calibration": "calibration images",
        "hidden": "hidden on average",
        "population": "population",
        "calibrated": "calibrated",
        "network": "network",
        "fingerprint": "fingerprint",
    },
    "evaluation": {
        "n_test": "test images",
        "coverage": "coverage",
        "mask_size": "hidden",
        "mask_size_oracle": "best possible",
        "fingerprint": "",
    },
}
"""Keys to show from each file, with their labels; keys without a label appear in the JSON only."""
OF_IMAGES = ("channels", "sizes", "data_range", "x_range")
"""Keys of a scorer that a calibration has too."""
BRIEF = {
    "calibration": ("n_calibration", "hidden", "network", "fingerprint"),
    "evaluation": ("n_test", "coverage"),
}
"""The keys of a calibrated run that are shown without --research."""
ABSENT = {
    "data_range": "by file type",
    "x_range": "as y_hat; of 8 bits 0 to 255",
    "population": "new images like these",
    "network": "unknown",
}


def info(
    run: Path,
    /,
    *,
    fingerprint: Annotated[
        bool, Parameter(help="Print only the fingerprint of the masker, for the lab book.")
    ] = False,
    research: Annotated[
        bool, Parameter(help="Show every setting, lambda and the formula of the loss too.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Show what a run folder contains and what it promises, without loading a network.

    The exit status is 1 where a file was not saved with the others, so that nothing is promised.

    Parameters
    ----------
    run
        A run folder or a saved masker.
    """
    if fingerprint:
        stored = read_promise(run)[1]
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
    for name in held.keys() & {"scorer", "calibration"}:
        held[name] = with_loss(held[name], run / HELD[name])
    sentence = formula = void = None
    if "calibration" in held:
        held["calibration"] = with_promise(held["calibration"])
        try:
            card = read_promise(run)[0]
            sentence, formula = card.sentence, card.formula
        except MismatchError as error:  # a file that was not saved with the others
            void = str(error)
    if {"scorer", "calibration"} <= held.keys():  # a scorer without training knows less of the images
        held["scorer"] = {key: held["calibration"].get(key) for key in OF_IMAGES} | held["scorer"]
    record = {
        name: {key: held[name].get(key) for key in keys if name != "scorer" or key in held[name]}
        for name, keys in SHOWN.items()
        if name in held
    }
    remarks, selection = remarks_on_run(run), Selection.load(run)
    comparison = None if selection is None else selection.comparison
    keys = BRIEF if "calibration" in record and not research else SHOWN
    rows = []
    for name, part in record.items():
        labels = {key: label for key, label in SHOWN[name].items() if label and key in keys.get(name, ())}
        if "evaluation" in record and name == "calibration":  # it has the share of the test images
            del labels["hidden"]
        try:
            rows += [(label, _text(key, part[key], part)) for key, label in labels.items() if key in part]
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise MismatchError(
                f"{run / HELD[name]} has contents that conformask does not write: copy the file again"
            ) from error
    show(
        {
            "run": str(run),
            "sentence": sentence,
            "formula": formula,
            "void": void,
            "comparison": comparison and asdict(comparison),
            "remarks": remarks,
            **{name: _as_json(part) for name, part in record.items()},
        },
        *filter(None, [sentence, *remarks]),
        facts(rows),
        *([] if comparison is None or sentence else [judged_text(comparison)]),
        *([] if comparison is None or keys is BRIEF else [comparison_text(comparison)]),
        *([void] if void else _notes(record, sentence or remarks, run)),
        *filter(None, [formula]),
        as_json=json,
    )
    if void:
        sys.exit(1)


def _as_json(part: Mapping[str, Json]) -> dict[str, Json]:
    """Return a part of what is shown, its loss as records keep it."""
    loss = part.get("loss")
    return {**part, "loss": loss.to_json()} if isinstance(loss, StatedLoss) else dict(part)


def _notes(
    record: Mapping[str, Mapping[str, Json]], promised: str | list[str] | None, run: Path
) -> list[str]:
    notes = []
    if not {"predictor", "scorer"} & set(record):
        notes.append("Training is not finished: resume it with --resume.")
    if "scorer" in record and not promised:
        notes.append(f"Nothing is promised yet: conformask calibrate {run} DATA --threshold T")
    evaluated, now = record.get("evaluation"), record.get("calibration", {}).get("fingerprint")
    if evaluated and evaluated["fingerprint"] != now:
        notes.append(f"The evaluation is about an earlier promise: repeat conformask evaluate {run} DATA")
    return notes


def _text(key: str, value: Any, part: Mapping[str, Json]) -> str:
    if value is None:
        return ABSENT.get(key, "none")
    if key == "sizes":
        return sizes_text(value) if value else "any"
    if key == "hidden":
        return f"{rounded_share(value)} of {part['loss'].whole}"
    if key in ("mask_size", "mask_size_oracle"):
        return rounded_share(value)
    if key == "loss":
        return f"{value.name}: {value.formula}"
    if key == "family":
        return str(value["name"]) + ("" if value["name"] == "binary" else ": values between 0 and 1")
    if key == "promise":  # the terms that are set: marginal, confidence 0.9, unit group
        unsaid = {"guarantee": value["guarantee"], "group_name": "group", "object_name": "object"}
        terms = {name: term for name, term in value.items() if term and term != unsaid.get(name)}
        texts = [name if term is True else f"{name} {term}" for name, term in terms.items()]
        return ", ".join([str(value["guarantee"]), *texts])
    if isinstance(value, Mapping):
        return _text(key, value.get("lam", value.get("name")), part)
    if value == math.inf:
        return "inf: nothing needs hiding"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
