"""Runs of planes and volumes on smooth fields, noisy where they are bright."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

import conformask as cm
from conformask.masker.masker import Masker


def pair(seed, shape, channels=1):
    """x, y_hat and y, uint8 (*space) or (*space, C): smooth fields, noisy where they are bright."""
    generator = np.random.default_rng(seed)
    whole = shape if channels == 1 else (*shape, channels)
    space = tuple(range(len(shape)))
    field = gaussian_filter(generator.standard_normal(whole), 2.0, axes=space)
    y = 0.5 + 0.4 * field / abs(field).max()
    x = y + 0.1 * generator.standard_normal(whole) * (y > 0.5)
    y_hat = gaussian_filter(x, 0.7, axes=space)
    x, y_hat, y = (np.rint(255 * image.clip(0, 1)).astype(np.uint8) for image in (x, y_hat, y))
    return x, y_hat, y


def spread(y_hat):
    """A map beside y_hat, far from [0, 1]: high where it changes."""
    return np.hypot(*np.gradient(y_hat.astype(np.float32))) - 3


@dataclass(frozen=True)
class Run:
    """A masker in its folder."""

    folder: Path
    masker: Masker


def run_of(folder, shape, channels=1, maps=None, **asked):
    x, y_hat, y = zip(*(pair(seed, shape, channels) for seed in range(24)), strict=True)
    axes = "ZYX"[-len(shape) :] + ("C" if channels > 1 else "")
    cues = None if maps is None else [maps(image) for image in y_hat]
    triplets = cm.Triplets.from_arrays(x, y_hat, y, cues=cues, reading=cm.Reading(axes=axes))
    calibration, selection = triplets.select(range(14)), triplets.select(range(14, 24))
    promise = cm.Promise(confidence=0.8)
    settings = {"scorer": cm.packaged_scorer(), "threshold": 0.01, "promise": promise} | asked
    cm.calibrate(images=calibration, selection=selection, **settings).save(folder)
    return Run(folder, cm.load(folder))
