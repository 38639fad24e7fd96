"""Large images, read window by window."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from conformask.data.datasets import UnreadImage
from conformask.data.decoding import open_window, read_header
from conformask.data.formats.header import Header, Places, Window, channels_first, image_of_array, window_of
from conformask.data.images import Image, count_clipped, to_unit
from conformask.data.memory import FLOAT32, check_memory
from conformask.records.reading import PLAIN, Reading
from conformask.records.size import Size
from conformask.storage.as_arrays import Array

LARGEST_SLAB = 2**27
"""Most values in a slab of full width that stays in memory for the tiles beside each other."""


@dataclass(frozen=True)
class Raster:
    """An image of which only the windows in use are in memory."""

    name: str
    """Name of the file or array, for messages."""
    header: Header
    reading: Reading
    window: Window

    @property
    def size(self) -> Size:
        """Size of the image, (H, W) or (D, H, W)."""
        return self.header.space

    def read(self, places: Places) -> Image:
        """Read a window as float32 (C, *space) in [0, 1], by the rules of read_image.

        Raises:
            ImageError: it cannot be decoded, takes more memory than allowed, or holds NaN or values outside
                the range; its message says where.
        """
        spans = zip(("planes", "rows", "columns")[-len(places) :], places, strict=True)
        name = f"{self.name} ({', '.join(f'{axis} {span.start} to {span.stop}' for axis, span in spans)})"
        window = self.window(places)
        check_memory(name, FLOAT32 * window.size)
        return to_unit(window, self.header, self.reading, name)

    def values(self, places: Places) -> Image:
        """Read a window as float32 (C, *space) with the values that the file holds."""
        return np.ascontiguousarray(channels_first(self.window(places), len(places)), np.float32)

    def clipped(self, windows: Iterable[Places]) -> float:
        """Return the share of the values in these windows, read once more, that are clipped."""
        if self.reading.clip is None:
            return 0.0
        outside = values = 0
        for places in windows:
            window = self.window(places)
            outside += count_clipped(window, self.header, self.reading, self.name)
            values += window.size
        return outside / values


def open_raster(image: UnreadImage, reading: Reading = PLAIN, name: str = "the array") -> Raster:
    """Open an image file of any type, or an array that messages call `name`, without decoding it yet.

    Raises:
        MissingFileError: there is no such file.
        ImageError: its header cannot be read, it has several time points, or a zarr lacks chunks.
    """
    if not isinstance(image, Path):
        array, header = image_of_array(np.asarray(image), name, reading.axes)
        return Raster(name, header, reading, window_of(array))
    header, windows = read_header(image, reading), lru_cache(maxsize=1)(open_window)

    # tiles come row by row: those beside each other are cut from one slab, which is decoded once
    @lru_cache(maxsize=1)
    def slab(start: int, stop: int) -> Array:
        return windows(image, reading)((slice(start, stop), *header.everywhere[1:]))

    def window(places: Places) -> Array:
        first, *others = places
        if (first.stop - first.start) * header.values // header.space[0] > LARGEST_SLAB:
            return windows(image, reading)(places)
        return slab(first.start, first.stop)[:, *others]

    return Raster(str(image), header, reading, window)
