"""Images far outside of the calibration's, one by one and without truth."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from conformask.conformal.curves import Curves
from conformask.masker.appearance import MEASURES, ROLES
from conformask.records.change import Change
from conformask.storage.as_arrays import Array

FAR = 0.5
"""Distance from the nearest calibration image, as a share of the range of all of them, that counts as far.

Of test images like those of the calibration, 0 to 2 % lie farther out, on five real tasks with 63 to 160
calibration images.
"""
NARROWEST = math.log(2)
"""The least width of that range, in logarithms: calibration images may all be equally bright."""
SCORES = ("mean score", "spread / mean score", "median / mean score")
"""The features of a score map that `features_of` computes, before the score's own."""


def outliers(
    past: Curves | None, looks: Float[np.ndarray, "n 2 4"], features: Float[np.ndarray, "n f"]
) -> list[str]:
    """Return in which respect each image lies far outside of all `past` ones; "" where it does not.

    `looks` are the appearance of new images, `features` those of their scores. It is a description, without a
    false-alarm rate; "" for all where the past images left nothing to compare with.
    """
    if past is None or past.features is None:
        return [""] * len(features)
    known, new = past.features[:, : len(SCORES)], features[:, : len(SCORES)]
    if past.appearance is not None:  # first, since it says more to a reader
        known, new = (
            np.hstack([each.reshape(len(each), -1), scores])
            for each, scores in ((past.appearance, known), (looks, new))
        )
    low, high = known.min(axis=0), known.max(axis=0)
    is_far = np.maximum(low - new, new - high) > FAR * np.maximum(high - low, NARROWEST)
    return [
        _text(int(measure) - is_far.shape[1], values, low, high, len(known)) if far else ""
        for measure, values, far in zip(is_far.argmax(axis=1), new, is_far.any(axis=1), strict=True)
    ]


def outliers_text(found: Mapping[str, str], n: int) -> str:
    """Return a warning of the images that were found to be outliers, by name, among n."""
    name, how = next(iter(found.items()))
    far = "far outside of the calibration images"
    which = f"this image is {far}" if n == 1 else f"{len(found)} of {n} images are {far}, such as {name}"
    return (
        f"{which} ({how}). The promise is an average over images like those of the calibration: nothing is "
        "known about such an image by itself. Check the range, the network that made y_hat, and that x and "
        "y_hat are in their places"
    )


def _text(measure: int, values: Float[np.ndarray, "m"], low: Array, high: Array, n: int) -> str:
    """Describe the value of one measure, a negative place in the columns: looks, then scores."""
    end = high if values[measure] > high[measure] else low
    ratio = float(np.exp(values[measure] - end[measure]))
    if measure >= -len(SCORES):
        return f"{SCORES[measure]} {ratio:.2g} times that of the nearest of {n}"
    role, look = divmod(measure + len(SCORES) + len(ROLES) * len(MEASURES), len(MEASURES))
    return f"{ROLES[role]}: {Change(MEASURES[look], ROLES[role], ratio).text}, beside the nearest of {n}"
