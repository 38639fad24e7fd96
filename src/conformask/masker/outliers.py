"""Images far outside of the calibration's, one by one and without truth."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from conformask.conformal.curves import Curves
from conformask.masker.appearance import MEASURES, ROLES, appearance
from conformask.records.change import Change
from conformask.storage.as_arrays import Array
from conformask.types import Batch

FAR = 0.5
"""Distance from the nearest calibration image, as a share of the range of all of them, that counts as far.

Of test images like those of the calibration, 0 to 2 % lie farther out, on five real tasks with 63 to 160
calibration images.
"""
NARROWEST = math.log(2)
"""The least width of that range, in logarithms: calibration images may all be equally bright."""
SCORES = ("mean score", "spread / mean score", "median / mean score")
"""The features of a score map that `features_of` computes, before the score's own."""


def outliers(curves: Curves | None, batch: Batch, features: Float[np.ndarray, "n f"]) -> dict[str, str]:
    """Return in which respect images lie far outside of all calibration images, by name; others are left out.

    `features` are those of the scores of the batch. It is a description, without a false-alarm rate; empty
    where the calibration kept nothing to compare with.
    """
    if curves is None or curves.features is None:
        return {}
    past, new = curves.features[:, : len(SCORES)], features[:, : len(SCORES)]
    if curves.appearance is not None:  # first, since it says more to a reader
        past, new = (
            np.hstack([looks.reshape(len(looks), -1), scores])
            for looks, scores in ((curves.appearance, past), (appearance(batch), new))
        )
    low, high = past.min(axis=0), past.max(axis=0)
    is_far = np.maximum(low - new, new - high) > FAR * np.maximum(high - low, NARROWEST)
    return {
        name: _text(int(measure) - is_far.shape[1], new[index], low, high, len(past))
        for index, (name, measure) in enumerate(zip(batch.names, is_far.argmax(axis=1), strict=True))
        if is_far[index].any()
    }


def outliers_text(found: Mapping[str, str], n: int) -> str:
    """Return a warning of the images that `outliers` found, among n."""
    name, how = next(iter(found.items()))
    far = "far outside of the calibration images"
    which = f"this image is {far}" if n == 1 else f"{len(found)} of {n} images are {far}, such as {name}"
    return (
        f"{which} ({how}): the promise does not cover it. Check the range, the network that made y_hat, and "
        "that x and y_hat are in their places"
    )


def _text(measure: int, values: Float[np.ndarray, "m"], low: Array, high: Array, n: int) -> str:
    """Describe the value of one measure, a negative place in the columns: looks, then scores."""
    end = high if values[measure] > high[measure] else low
    ratio = float(np.exp(values[measure] - end[measure]))
    if measure >= -len(SCORES):
        return f"{SCORES[measure]} {ratio:.2g} times that of the nearest of {n}"
    role, look = divmod(measure + len(SCORES) + len(ROLES) * len(MEASURES), len(MEASURES))
    return f"{ROLES[role]}: {Change(MEASURES[look], ROLES[role], ratio).text}, beside the nearest of {n}"
