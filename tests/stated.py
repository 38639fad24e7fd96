"""Calibration from words, as the command line takes them, for tests that go through many of them."""

from dataclasses import fields
from typing import Any

from conformask.images.triplets import Triplets
from conformask.losses import loss_of_terms
from conformask.masker.calibrate import calibrate
from conformask.masker.masker import Masker
from conformask.promises.promise import Promise
from conformask.records.loss import LossTerms
from conformask.scores.scorer import Scorer


def calibrated(scorer: Scorer, images: Triplets, *, distance: Any = "l1", **words: Any) -> Masker:
    """Calibrate for a distance, over, window and tolerance, and the terms of a promise, by name."""
    about = {name: words.pop(name) for name in ("over", "window", "tolerance") if name in words}
    terms = {each.name: words.pop(each.name) for each in fields(Promise) if each.name in words}
    used = loss_of_terms(LossTerms(distance=distance, **about)) if any(about.values()) else distance
    return calibrate(scorer, images, loss=used, promise=Promise(**terms), **words)
