"""Evaluations that conformask 0.1 and 0.2 wrote, in the form of today."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conformask.errors import MismatchError
from conformask.records.card import CALIBRATION, CalibrationCard
from conformask.records.selection import comparison_as_now
from conformask.storage.as_json import Json, read_json

OLD_NAMES = {
    "distance": "loss",
    "unmasked_distance": "unmasked_loss",
    "mean_distance": "mean_loss",
    "mean_distance_interval": "mean_loss_interval",
    "correlation_size_distance": "correlation_size_loss",
    "spearman_size_distance": "spearman_size_loss",
    "worth": "comparison",
}
"""Names up to conformask 0.2, and what they are called now."""


def as_now(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by the names of today; up to conformask 0.2 losses were called distances."""
    named = {OLD_NAMES.get(name, name): value for name, value in stored.items()}
    return named | {"comparison": comparison_as_now(named["comparison"])} if "comparison" in named else named


def card_of(record: Mapping[str, Json], path: Path) -> CalibrationCard:
    """Return the card of an evaluation; up to conformask 0.2 only the run folder held it.

    Raises:
        MismatchError: the run folder holds none, or one of another masker.
    """
    if "card" in record:
        return CalibrationCard.from_json(record["card"], path)
    beside = path.parent / CALIBRATION
    if beside.is_file():
        calibration = read_json(beside)
        card, fingerprint = CalibrationCard.from_json(calibration, beside), calibration.get("fingerprint")
        terms = card.threshold, card.promise.confidence
        same_masker = record["fingerprint"] in ("", fingerprint)  # conformask 0.1 kept none
        if same_masker and terms == (record.get("threshold"), record.get("confidence")):
            return card
    raise MismatchError(
        f"{path} was written by an earlier conformask, and the calibration that it is about is not beside "
        "it: evaluate again"
    )
