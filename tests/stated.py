"""Calibration from words, as the command line takes them, for tests that go through many of them."""

from dataclasses import fields
from typing import Any

from conformask.images.triplets import Triplets
from conformask.losses import loss_over
from conformask.masker.calibrate import calibrate
from conformask.masker.masker import Masker
from conformask.promises.promise import Promise
from conformask.scores.scorer import Scorer


def calibrated(scorer: Scorer, images: Triplets, *, distance: Any = "l1", **words: Any) -> Masker:
    """Calibrate for a distance, over, window and tolerance, and the terms of a promise, by name."""
    over = words.pop("over", None)
    numbers = {name: words.pop(name, None) for name in ("window", "tolerance")}
    terms = {each.name: words.pop(each.name) for each in fields(Promise) if each.name in words}
    used = None if distance is None else loss_over(distance, over, numbers)
    return calibrate(scorer, images, loss=used, promise=Promise(**terms), **words)
