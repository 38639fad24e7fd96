"""Calibration from words, as the command line takes them, for tests that go through many of them."""

from dataclasses import fields

from conformask.losses import loss_over
from conformask.masker.calibrate import calibrate
from conformask.promises.promise import Promise


def calibrated(scorer, images, *, distance="l1", **words):
    """Calibrate for a distance, over, window and tolerance, and the terms of a promise, by name."""
    over = words.pop("over", None)
    numbers = {name: words.pop(name, None) for name in ("window", "tolerance")}
    terms = {each.name: words.pop(each.name) for each in fields(Promise) if each.name in words}
    used = None if distance is None else loss_over(distance, over, numbers)
    return calibrate(scorer, images, loss=used, promise=Promise(**terms), **words)
