"""What `conformask info` says of a run folder: its promise, and a table of what its files hold."""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from conformask.cli.output import facts, sizes_text
from conformask.errors import MismatchError, MissingFileError
from conformask.masker.remarks import remarks_on_run
from conformask.masker.run_folder import read_promise
from conformask.records.loss import StatedLoss
from conformask.records.numbers import rounded_share
from conformask.records.record import Json, read_json
from conformask.records.selection import ScoreComparison, Selection
from conformask.records.upgrade import with_loss, with_promise
from conformask.records.words import comparison_text, judged_text

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
BRIEF: Mapping[str, Collection[str]] = {
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


@dataclass(frozen=True)
class RunText:
    """A run folder as it is shown."""

    run: Path
    parts: Mapping[str, Mapping[str, Json]]
    """What is shown of each file."""
    sentence: str | None
    """Sentence of the promise; None where nothing is promised."""
    formula: str | None
    """Formula of the promise."""
    void: str | None
    """Why the promise does not hold: a file that was not saved with the others."""
    remarks: list[str]
    comparison: ScoreComparison | None
    """Hidden shares of this score and of others, on the selection images."""

    @classmethod
    def load(cls, run: Path) -> "RunText":
        """Read the records of a run folder.

        Raises
        ------
        MissingFileError
            If it has none.
        MismatchError
            If one has contents that conformask does not write.
        """
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
        parts = {
            name: {key: held[name].get(key) for key in keys if name != "scorer" or key in held[name]}
            for name, keys in SHOWN.items()
            if name in held
        }
        remarks, selection = remarks_on_run(run), Selection.load(run)
        comparison = None if selection is None else selection.comparison
        return cls(run, parts, sentence, formula, void, remarks, comparison)

    def record(self) -> dict[str, Any]:
        """Return what --json prints."""
        return {
            "run": str(self.run),
            "sentence": self.sentence,
            "formula": self.formula,
            "void": self.void,
            "comparison": self.comparison and asdict(self.comparison),
            "remarks": self.remarks,
            **{name: _as_json(part) for name, part in self.parts.items()},
        }

    def blocks(self, *, research: bool) -> list[str | Table]:
        """Return what is printed: what most people need of a calibrated run, or every setting."""
        is_brief = "calibration" in self.parts and not research
        blocks: list[str | Table | None] = [self.sentence, *self.remarks, self._facts(is_brief=is_brief)]
        if self.comparison is not None:
            blocks.append(None if self.sentence else judged_text(self.comparison))
            blocks.append(None if is_brief else comparison_text(self.comparison))
        blocks += [self.void] if self.void else list(self._notes())
        return [block for block in (*blocks, self.formula) if block]

    def _facts(self, *, is_brief: bool) -> Table:
        keys = BRIEF if is_brief else SHOWN
        rows = []
        for name, part in self.parts.items():
            labels = {key: label for key, label in SHOWN[name].items() if label and key in keys.get(name, ())}
            if "evaluation" in self.parts and name == "calibration":  # it has the share of the test images
                del labels["hidden"]
            try:
                rows += [(label, _text(key, part[key], part)) for key, label in labels.items() if key in part]
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                path = self.run / HELD[name]
                raise MismatchError(
                    f"{path} has contents that conformask does not write: copy the file again"
                ) from error
        return facts(rows)

    def _notes(self) -> Iterator[str]:
        if not self.parts.keys() & {"predictor", "scorer"}:
            yield "Training is not finished: resume it with --resume."
        if "scorer" in self.parts and not (self.sentence or self.remarks):
            yield f"Nothing is promised yet: conformask calibrate {self.run} DATA --threshold T"
        evaluated = self.parts.get("evaluation")
        if evaluated and evaluated["fingerprint"] != self.parts.get("calibration", {}).get("fingerprint"):
            yield f"The evaluation is about an earlier promise: repeat conformask evaluate {self.run} DATA"


def _as_json(part: Mapping[str, Json]) -> dict[str, Json]:
    """Return a part of what is shown, its loss as records keep it."""
    loss = part.get("loss")
    return {**part, "loss": loss.to_json()} if isinstance(loss, StatedLoss) else dict(part)


def _text(key: str, value: Any, part: Mapping[str, Json]) -> str:
    if value is None:
        return ABSENT.get(key, "none")
    if key == "sizes":
        return sizes_text(value) if value else "any"
    if key == "hidden":
        return f"{rounded_share(value)} of {part['loss'].extent.whole}"
    if key in ("mask_size", "mask_size_oracle"):
        return rounded_share(value)
    if key == "loss":
        return f"{value.name}: {value.words.formula}"
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
