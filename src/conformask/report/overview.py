"""Block-wise downsampling for overviews of large images."""

from math import ceil

import numpy as np

from conformask.storage.as_arrays import Array

LONGEST, LONGEST_IN_VOLUMES = 2048, 256
"""Longest side of an overview, in pixels, of a plane and of a volume."""


class Overview:
    """Mean over squares or cubes of pixels of an image (C, *space), to a limited longest side."""

    def __init__(self, channels: int, size: tuple[int, ...]) -> None:
        self.step = ceil(max(size) / (LONGEST if len(size) == 2 else LONGEST_IN_VOLUMES))
        sides = [ceil(side / self.step) for side in size]
        self._sums = np.zeros((channels, *sides), np.float32)
        self._counts = np.zeros(sides, np.float32)

    def add(self, places: tuple[slice, ...], block: Array) -> None:
        """Add a block (C, *window) that lies at these places; each pixel once."""
        sums, counts, where = block, np.ones((), np.float32), []
        for axis, side in enumerate(places, start=1):
            cells = np.arange(side.start, side.stop) // self.step
            sums = np.add.reduceat(sums, np.flatnonzero(np.diff(cells, prepend=-1)), axis=axis)
            counts = np.multiply.outer(counts, np.bincount(cells - cells[0]).astype(np.float32))
            where.append(slice(cells[0], cells[-1] + 1))
        self._sums[:, *where] += sums
        self._counts[*where] += counts

    @property
    def image(self) -> Array:
        """Overview, (C, *space) float32."""
        return self._sums / self._counts
