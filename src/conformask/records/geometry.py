"""Where the pixels of an image lie: their spacing, and how they stand in a patient or on a stage."""

from dataclasses import dataclass

import numpy as np

from conformask.storage.as_arrays import Array

CLOSE = 1e-3
"""Of a pixel: how far two images may lie apart that are said to lie in the same place."""
UNITS = {"mm": 1e-3, "\u00b5m": 1e-6, "nm": 1e-9, "m": 1.0}
"""In metres."""


@dataclass(frozen=True)
class Geometry:
    """Spacing along each spatial axis of an image, (D, H, W) or (H, W), and its place where it is known."""

    spacing: tuple[float, ...]
    """The step from pixel to pixel along each axis, above 0."""
    unit: str
    """mm, \u00b5m, nm or m."""
    affine: tuple[tuple[float, ...], ...] | None = None
    """4 x 4: from the indices (x, y, z) of a pixel to right, anterior, superior in mm; None where unknown."""

    @property
    def text(self) -> str:
        """For example "2 x 0.5 x 0.5 mm"."""
        return f"{' x '.join(f'{step:.4g}' for step in self.spacing)} {self.unit}"

    def differs(self, other: "Geometry") -> str | None:
        """How another image of the same shape lies elsewhere; None where it does not."""
        if self.unit != other.unit:
            return f"{self.text} and {other.text}"
        steps, others = np.array(self.spacing), np.array(other.spacing)
        if steps.shape != others.shape or (abs(steps - others) > CLOSE * steps).any():
            return f"a spacing of {self.text} and {other.text}"
        if self.affine is None or other.affine is None:
            return None
        offset = abs(np.array(self.affine) - np.array(other.affine)).max()
        return f"affines that differ by {offset:.4g} mm" if offset > CLOSE * steps.min() else None

    def pixels(self, length: float, unit: str) -> tuple[int, ...]:
        """A length along each axis in whole pixels, at least 1."""
        metres = length * UNITS[unit]
        return tuple(max(1, round(metres / (step * UNITS[self.unit]))) for step in self.spacing)


def affine_of(matrix: Array) -> tuple[tuple[float, ...], ...]:
    """A 4 x 4 matrix as a Geometry keeps it."""
    return tuple(tuple(map(float, row)) for row in np.asarray(matrix))
