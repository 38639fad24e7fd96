"""A small masker, and triplets like those that it was calibrated on, for tests of code that uses maskers."""

from dataclasses import replace

import numpy as np

from conformask.data.triplets import Triplets
from conformask.masker.calibrate import calibrate
from conformask.masker.masker import Masker
from conformask.scorers.scorer import Heuristic
from conformask.scorers.simple import residual

SIDE = 16
"""Height and width of the images."""
DATE = "2026-01-01T00:00:00+00:00"
"""Date of the calibration, a part of the fingerprint."""


def small_masker() -> Masker:
    """Return a masker that was calibrated on 40 grey images of 16 x 16 pixels; always the same.

    It takes a fraction of a second, and neither files nor a network. Its masks hide a part of each image.

    Examples:
        >>> from conformask.testing import small_masker, small_triplets
        >>> masker, new = small_masker(), small_triplets(seed=1)
        >>> mask = masker(new[0])
        >>> mask.shape, bool(0 < mask.mean() < 1)
        ((16, 16), True)
    """
    masker = calibrate(Heuristic(residual, channels=1), small_triplets(), threshold=0.02, loss="l1")
    return replace(masker, card=replace(masker.card, calibrated=DATE))


def small_triplets(n: int = 40, seed: int = 0) -> Triplets:
    """Return n noisy scenes x, their mean over three rows y_hat, and the scenes y, of 16 x 16 pixels.

    Those of `small_masker` have the seed 0; those of any other seed are like them.

    Examples:
        >>> from conformask.testing import small_triplets
        >>> small_triplets(3, seed=1)[0].x.shape
        (1, 16, 16)
    """
    generator = np.random.default_rng(seed)
    waves = np.sin(np.arange(SIDE) / 4 + generator.uniform(0, 6, (n, 1, 1)))
    y = generator.uniform(0.3, 0.5, (n, 1, 1)) * (1 + 0.5 * np.repeat(waves, SIDE, axis=1))
    x = y + 0.08 * generator.standard_normal((n, SIDE, SIDE))
    y_hat = (x + np.roll(x, 1, axis=1) + np.roll(x, -1, axis=1)) / 3
    return Triplets.from_arrays(*(image.clip(0, 1).astype(np.float32) for image in (x, y_hat, y)))
