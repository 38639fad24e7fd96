"""Maskers and cards for tests that are about something else: from words, with levels, from flat terms."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from conformask.losses import loss_over
from conformask.masker.calibrate import calibrate
from conformask.promises.kernel_ridge import KernelRidge
from conformask.promises.promise import Promise, takes
from conformask.records.card import CalibrationCard
from conformask.scores.level import Levelled, LevelModel, level_features


def calibrated(scorer, images, *, distance="l1", **words):
    """Calibrate for a distance, over, window and tolerance, and the terms of a promise, by name."""
    over = words.pop("over", None)
    numbers = {name: words.pop(name, None) for name in ("window", "tolerance")}
    terms = {each.name: words.pop(each.name) for each in fields(Promise) if each.name in words}
    used = None if distance is None else loss_over(distance, over, numbers)
    return calibrate(scorer, images, loss=used, promise=Promise(**terms), **words)


def levelled(masker, x, y_hat):
    """The masker, with levels up to twice as large or small, by how near an image is to each of these."""
    points = level_features(x, y_hat, masker.scorer(x, y_hat).map).numpy()
    centre, scale = points.mean(axis=0), points.std(axis=0).clip(min=1e-3)
    weights = np.resize([0.7, -0.7, 0.5], len(points))
    ridge = KernelRidge(centre, scale, (points - centre) / scale, weights, 1.0)
    return replace(masker, scorer=Levelled(masker.scorer, LevelModel(ridge, np.zeros(len(points)))))


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
