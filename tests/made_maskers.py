"""Maskers for tests that are about something else: from words, and with levels."""

from dataclasses import fields, replace

import numpy as np

from conformask.losses import loss_over
from conformask.masker.calibrate import calibrate
from conformask.promises.kernel_ridge import KernelRidge
from conformask.promises.promise import Promise
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
