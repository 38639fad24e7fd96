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
NAMED = 10
"""Most images that a warning names."""
SCORES = ("mean score", "spread / mean score", "median / mean score")
"""The features of a score map that `features_of` computes, before the score's own."""


def outliers(
    past: Curves | None, looks: Float[np.ndarray, "n 2 4"] | None, features: Float[np.ndarray, "n f"]
) -> list[str]:
    """Return in which respect each image lies far outside of all `past` ones; "" where it does not.

    `looks` are the appearance of new images, where it compares with that of the past ones, `features` those
    of their scores. It is a description, without a false-alarm rate; "" for all where the past images
    left nothing to compare with.
    """
    if past is None or past.features is None:
        return [""] * len(features)
    known, new = past.features[:, : len(SCORES)], features[:, : len(SCORES)]
    if past.appearance is not None and looks is not None:  # first, since it says more to a reader
        known, new = (
            np.hstack([each.reshape(len(each), -1), scores])
            for each, scores in ((past.appearance, known), (looks, new))
        )
    low, high = known.min(axis=0), known.max(axis=0)
    least, largest = _limits(low, high)
    return [
        _text(int(is_far.argmax()) - len(is_far), values, low, high, len(known)) if is_far.any() else ""
        for values, is_far in zip(new, (new < least) | (new > largest), strict=True)
    ]


def outliers_text(found: Mapping[str, str], n: int) -> str:
    """Return a warning of the images that were found to be outliers, by name, among n."""
    far, texts = "far outside of the calibration images", [f"{name} ({how})" for name, how in found.items()]
    others = [f"and {len(texts) - NAMED} others"] * (len(texts) > NAMED)
    name, how = next(iter(found.items()))
    which = (
        f"{name} is {far} ({how})"
        if n == 1
        else f"{len(found)} of {n} images are {far}: {', '.join(texts[:NAMED] + others)}"
    )
    return (
        f"{which}. The promise is an average over images like those of the calibration: nothing is known "
        "about such an image by itself. Check the range, the network that made y_hat, and that x and y_hat "
        "are in their places"
    )


def limits_of_means(past: Curves | None, *, of_images: bool) -> dict[str, tuple[float, float]]:
    """Return the limits beyond which the mean of a score or image is far outside of all `past` ones.

    They are empty where nothing is known to compare with. With `of_images`, x and y_hat have limits, too:
    their brightness is their mean.
    """
    if past is None or past.features is None:
        return {}
    logs = {"score": past.features[:, 0]}
    if past.appearance is not None and of_images:
        logs |= {role: past.appearance[:, place, 0] for place, role in enumerate(ROLES)}
    limits = {name: np.exp(_limits(values.min(), values.max())) for name, values in logs.items()}
    return {name: (float(least), float(largest)) for name, (least, largest) in limits.items()}


def _limits(low: Array, high: Array) -> tuple[Array, Array]:
    """Return the least and the largest logarithms that are not far outside of known ones, of this range."""
    margin = FAR * np.maximum(high - low, NARROWEST)
    return low - margin, high + margin


def _text(measure: int, values: Float[np.ndarray, "m"], low: Array, high: Array, n: int) -> str:
    """Describe the value of one measure, a negative place in the columns: looks, then scores."""
    end = high if values[measure] > high[measure] else low
    ratio = float(np.exp(values[measure] - end[measure]))
    if measure >= -len(SCORES):
        return f"{SCORES[measure]} {ratio:.2g} times that of the nearest of {n}"
    role, look = divmod(measure + len(SCORES) + len(ROLES) * len(MEASURES), len(MEASURES))
    return f"{ROLES[role]}: {Change(MEASURES[look], ROLES[role], ratio).text}, beside the nearest of {n}"
