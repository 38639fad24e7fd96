"""The slices of a volume that are worth a look."""

import numpy as np

from conformask.storage.as_arrays import Array


def telling(mask: Array, error: Array | None = None) -> dict[int, str]:
    """What is to be seen at which slice: the most hidden, the largest error where it is known, the middle.

    Args:
        mask: (C, D, H, W) in [0, 1].
        error: of any channels, (C, D, H, W).
    """
    hidden = 1 - mask.mean(axis=(0, 2, 3), dtype=np.float64)
    places = {"most hidden": int(hidden.argmax())}
    if error is not None:
        places["largest error"] = int(error.mean(axis=(0, 2, 3), dtype=np.float64).argmax())
    places["middle"] = len(hidden) // 2
    slices: dict[int, str] = {}
    for what, place in places.items():
        slices[place] = f"{slices[place]}, {what}" if place in slices else what
    return slices


def at_slice(image: Array, place: int, depth: int) -> Array:
    """The slice (C, H, W) of a volume (C, D, H, W) at a place among `depth`, which it may have fewer of."""
    plane: Array = image[:, place * image.shape[1] // depth]
    return plane


def slice_text(place: int, depth: int, what: str) -> str:
    """For example "slice 41 of 80, most hidden"."""
    return f"slice {place + 1} of {depth}, {what}"
