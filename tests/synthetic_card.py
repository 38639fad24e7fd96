"""A card of a calibration that never happened, from flat terms as of conformask 0.2; without torch."""

from pathlib import Path
from typing import Any

from conformask.promises.promise import takes
from conformask.records.card import CalibrationCard

FLAT: dict[str, Any] = {
    "threshold": 0.02,
    "confidence": 0.9,
    "delta": None,
    "guarantee": "marginal",
    "claim": "P(l1 <= 0.02) >= 0.90",
    "distance": "l1",
    "family": {"name": "reciprocal"},
    "rule": {"kind": "constant", "lam": 0.5},
    "exact": True,
    "exploratory": False,
    "thresholds": None,
    "n_calibration": 400,
    "n_groups": None,
    "n_effective": None,
    "channels": 1,
    "sizes": [[8, 8]],
    "data_range": None,
    "population": None,
    "calibrated": "2025-01-01T00:00:00+00:00",
    "calibrated_on": ["0"],
}
TERMS = {*FLAT, "over", "window", "length", "tolerance", "region", "unit", "share", "within", "hides"}


def card(**changes):
    unused = dict.fromkeys({"confidence"} - takes(changes.get("guarantee", FLAT["guarantee"])))
    return CalibrationCard.from_json({**FLAT, **unused, **changes}, Path("a synthetic card"))
