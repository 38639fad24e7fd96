"""A large image made small, block by block."""

from math import ceil

import numpy as np

from conformask.storage.as_arrays import Array

LONGEST = 2048
"""Side of a reduced overlay, in pixels."""


class Overview:
    """The mean over squares of pixels of an image (C, H, W), its longest side at most LONGEST."""

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        self.step = ceil(max(size) / LONGEST)
        sides = [ceil(side / self.step) for side in size]
        self._sums = np.zeros((channels, *sides), np.float32)
        self._counts = np.zeros(sides, np.float32)

    def add(self, rows: slice, columns: slice, block: Array) -> None:
        """Put in a block (C, h, w) that lies at these rows and columns; each pixel once."""
        down, across = (np.arange(side.start, side.stop) // self.step for side in (rows, columns))
        starts = [np.flatnonzero(np.diff(places, prepend=-1)) for places in (down, across)]
        sums = np.add.reduceat(np.add.reduceat(block, starts[0], axis=1), starts[1], axis=2)
        where = slice(down[0], down[-1] + 1), slice(across[0], across[-1] + 1)
        self._sums[:, *where] += sums
        self._counts[where] += np.outer(np.bincount(down - down[0]), np.bincount(across - across[0]))

    @property
    def image(self) -> Array:
        """(C, h, w) float32."""
        return self._sums / self._counts
