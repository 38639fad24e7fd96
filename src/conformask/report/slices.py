"""The slices of a volume that are worth a look."""

from collections.abc import Iterator
from typing import Any

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


def planes_of(
    mask: Array, *others: Array | None, error: Array | None = None
) -> Iterator[tuple[list[Any], str | None]]:
    """Mask and other images (C, *space) as they are; of a volume their telling slices, each with what it is.

    Args:
        mask: (C, *space) in [0, 1].
        others: what lies under it, None where it is unknown; of as many slices, or fewer.
        error: where it is known; see `telling`.
    """
    images = [mask, *others]
    if mask.ndim == 3:
        yield images, None
        return
    depth = mask.shape[1]
    for place, what in telling(mask, error).items():
        planes = [None if image is None else at_slice(image, place, depth) for image in images]
        yield planes, slice_text(place, depth, what)


def at_slice(image: Array, place: int, depth: int) -> Array:
    """The slice (C, H, W) of a volume (C, D, H, W) at a place among `depth`, which it may have fewer of."""
    plane: Array = image[:, place * image.shape[1] // depth]
    return plane


def slice_text(place: int, depth: int, what: str) -> str:
    """For example "slice 41 of 80, most hidden"."""
    return f"slice {place + 1} of {depth}, {what}"
