"""Selection of the slices of a volume to look at."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from conformask.records.geometry import Geometry
from conformask.report.views import View, views_of
from conformask.storage.as_arrays import Array


def telling(mask: Array, error: Array | None = None, axis: int = 0) -> dict[int, str]:
    """Return labels by slice: the most hidden, the largest error if it is known, the middle.

    Args:
        mask: (C, D, H, W) in [0, 1].
        error: with any number of channels, (C, D, H, W).
        axis: the axis across which the slices lie, 0 to 2.
    """
    across = tuple(other for other in range(4) if other != 1 + axis)
    hidden = 1 - mask.mean(axis=across, dtype=np.float64)
    places = {"most hidden": int(hidden.argmax())}
    if error is not None:
        places["largest error"] = int(error.mean(axis=across, dtype=np.float64).argmax())
    places["middle"] = len(hidden) // 2
    slices: dict[int, str] = {}
    for what, place in places.items():
        slices[place] = f"{slices[place]}, {what}" if place in slices else what
    return slices


def planes_of(
    mask: Array, *others: Array | None, geometry: Geometry | None, error: Array | None = None
) -> Iterator[tuple[list[Any], str | None]]:
    """Yield mask and other images (C, *space) as they are; for a volume selected slices, each with a label.

    Args:
        mask: (C, *space) in [0, 1].
        others: the images under the mask, None for unknown ones; with as many slices, or fewer.
        geometry: how a volume lies in a patient: then slices are axial, and oriented as radiologists expect
            them.
        error: the error, if it is known; see `telling`.
    """
    images = [mask, *others]
    if mask.ndim == 3:
        yield images, None
        return
    view = views_of(mask.shape[1:], geometry)[0]
    depth = mask.shape[1 + view.axis]
    for place, what in telling(mask, error, view.axis).items():
        planes = [None if image is None else at_slice(image, view, place, depth) for image in images]
        yield planes, f"slice {place + 1} of {depth}, {what}"


def at_slice(image: Array, view: View, place: int, depth: int) -> Array:
    """Return the slice (C, H, W) at a place among `depth`, of a volume (C, *space) with perhaps fewer."""
    axis = 1 + view.axis
    return view.turned(image.take([place * image.shape[axis] // depth], axis))
