"""Planes of an image as they are shown: which of its axes run down and to the right, and which way.

Every image counts as a volume (D, H, W) here; an image with two axes is a volume of one plane.
"""

from dataclasses import dataclass

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

    def stored(self, start: int, stop: int, side: int) -> slice:
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
            places[along.axis] = along.stored(*ends, size[along.axis])
        return tuple(places)

    def turned(self, window: Array) -> Array:
        """Turn a window (C, D, H, W) of one plane to how it is shown, (C, rows, columns)."""
        plane = window.squeeze(1 + self.axis)
        upright = plane if self.down.axis < self.right.axis else plane.swapaxes(1, 2)
        rows, columns = (slice(None, None, -1 if way.backwards else 1) for way in (self.down, self.right))
        turned: Array = upright[:, rows, columns]
        return turned


AS_STORED = (
    View("XY", 0, Along(1), Along(2)),
    View("XZ", 1, Along(0), Along(2)),
    View("YZ", 2, Along(0), Along(1)),
)


def views_of(size: Size, geometry: Geometry | None) -> tuple[View, ...]:
    """Return the views of an image (H, W) or (D, H, W): radiological ones if it lies in a patient."""
    orientation = None if geometry is None else geometry.orientation
    views = AS_STORED if orientation is None else _of_patient(orientation)
    return views if len(size) == 3 else tuple(view for view in views if view.axis == 0)


def _of_patient(orientation: str) -> tuple[View, ...]:
    """Return views with right on the left, anterior at the top or on the left, superior at the top."""
    left, posterior, inferior = (_along(orientation, *ends) for ends in ("LR", "PA", "IS"))
    return (
        View("Axial", inferior.axis, posterior, left, "RLAP"),
        View("Coronal", posterior.axis, inferior, left, "RLSI"),
        View("Sagittal", left.axis, inferior, posterior, "APSI"),
    )


def _along(orientation: str, wanted: str, opposite: str) -> Along:
    """Return the axis that leads in a direction, or backwards from the opposite; x is the array's last."""
    index = max(orientation.find(wanted), orientation.find(opposite))
    return Along(2 - index, backwards=orientation[index] == opposite)
