"""Planes of an image as they are shown: which of its axes run down and to the right, and which way.

Every image counts as a volume (D, H, W) here; an image with two axes is a volume of one plane.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformask.records.geometry import Geometry
from conformask.records.size import Size
from conformask.storage.as_arrays import Array

Places = tuple[slice, ...]
"""Position of a window: a slice along z, y and x."""
Point = tuple[int, int, int]
"""Position of a pixel: its z, y and x."""


@dataclass(frozen=True)
class Along:
    """An axis of the array, 0 to 2, as it runs over the screen."""

    axis: int
    backwards: bool = False

    def array_slice(self, start: int, stop: int, side: int) -> slice:
        """Return where shown pixels lie in the array."""
        return slice(side - stop, side - start) if self.backwards else slice(start, stop)


@dataclass(frozen=True)
class View:
    """Planes across one axis of an image, as they are shown."""

    name: str
    axis: int
    down: Along
    right: Along
    letters: str = ""
    """Directions in a patient at the left, right, top and bottom, such as RLAP; empty where unknown."""

    def sides(self, size: Size) -> tuple[int, int]:
        """Return the numbers of rows and columns as shown."""
        return size[self.down.axis], size[self.right.axis]

    def places(self, size: Size, at: int, rows: tuple[int, int], columns: tuple[int, int]) -> Places:
        """Return the window of the array that holds a part of a plane."""
        places = [slice(at, at + 1)] * 3
        for along, ends in ((self.down, rows), (self.right, columns)):
            places[along.axis] = along.array_slice(*ends, size[along.axis])
        return tuple(places)

    def orient(self, window: Array) -> Array:
        """Turn a window (C, D, H, W) of one plane to how it is shown, (C, rows, columns)."""
        plane = window.squeeze(1 + self.axis)
        transposed = plane if self.down.axis < self.right.axis else plane.swapaxes(1, 2)
        rows, columns = (slice(None, None, -1 if axis.backwards else 1) for axis in (self.down, self.right))
        shown: Array = transposed[:, rows, columns]
        return shown


AS_STORED = (
    View("XY", 0, Along(1), Along(2)),
    View("XZ", 1, Along(0), Along(2)),
    View("YZ", 2, Along(0), Along(1)),
)


def views_of(size: Size, geometry: Geometry | None) -> tuple[View, ...]:
    """Return the views of an image (H, W) or (D, H, W): radiological ones if it lies in a patient."""
    orientation = None if geometry is None else geometry.orientation
    views = AS_STORED if orientation is None else _radiological_views(orientation)
    return views if len(size) == 3 else tuple(view for view in views if view.axis == 0)


def _radiological_views(orientation: str) -> tuple[View, ...]:
    """Return views with right on the left, anterior at the top or on the left, superior at the top."""
    left, posterior, inferior = (_screen_axis(orientation, *ends) for ends in ("LR", "PA", "IS"))
    return (
        View("Axial", inferior.axis, posterior, left, "RLAP"),
        View("Coronal", posterior.axis, inferior, left, "RLSI"),
        View("Sagittal", left.axis, inferior, posterior, "APSI"),
    )


def _screen_axis(orientation: str, direction: str, opposite: str) -> Along:
    """Return the axis that leads in a direction, or backwards from the opposite; x is the array's last."""
    index = max(orientation.find(direction), orientation.find(opposite))
    return Along(2 - index, backwards=orientation[index] == opposite)


def select_slices(mask: Array, error: Array | None = None, axis: int = 0) -> dict[int, str]:
    """Return labels by slice: the most hidden, the largest error if it is known, the middle.

    Args:
        mask: (C, D, H, W) in [0, 1].
        error: with any number of channels, (C, D, H, W).
        axis: the axis across which the slices lie, 0 to 2.
    """
    across = tuple(other for other in range(4) if other != 1 + axis)
    hidden = 1 - mask.mean(axis=across, dtype=np.float64)
    indices = {"most hidden": int(hidden.argmax())}
    if error is not None:
        indices["largest error"] = int(error.mean(axis=across, dtype=np.float64).argmax())
    indices["middle"] = len(hidden) // 2
    slices: dict[int, str] = {}
    for label, index in indices.items():
        slices[index] = f"{slices[index]}, {label}" if index in slices else label
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
        error: the error, if it is known; see `select_slices`.
    """
    images = [mask, *others]
    if mask.ndim == 3:
        yield images, None
        return
    view = views_of(mask.shape[1:], geometry)[0]
    depth = mask.shape[1 + view.axis]
    for index, label in select_slices(mask, error, view.axis).items():
        planes = [None if image is None else take_slice(image, view, index, depth) for image in images]
        yield planes, f"slice {index + 1} of {depth}, {label}"


def take_slice(image: Array, view: View, index: int, depth: int) -> Array:
    """Return the slice (C, H, W) at a place among `depth`, of a volume (C, *space) with perhaps fewer."""
    axis = 1 + view.axis
    return view.orient(image.take([index * image.shape[axis] // depth], axis))
