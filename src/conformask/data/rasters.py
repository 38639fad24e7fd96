"""Large images, read window by window."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from conformask.data.decoding import open_rows, read_header
from conformask.data.formats.opened import Header, Rows, header_of
from conformask.data.images import DataRange, Image, to_unit
from conformask.data.limits import FLOAT32, check_memory
from conformask.types import Array


@dataclass(frozen=True)
class Raster:
    """An image of which only the rows in use are in memory."""

    name: str
    """The file, for messages."""
    header: Header
    data_range: DataRange | None
    rows: Rows

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.header.height, self.header.width

    def read(self, rows: slice, columns: slice) -> Image:
        """A window, float32 (C, h, w) in [0, 1], by the rules of read_image.

        Raises:
            ImageError: it cannot be decoded, takes more memory than allowed, or holds NaN or values outside
                the range; says where.
        """
        where = f"rows {rows.start} to {rows.stop}, columns {columns.start} to {columns.stop}"
        name = f"{self.name} ({where})"
        window = self.rows(rows.start, rows.stop)[:, columns]
        check_memory(name, FLOAT32 * window.size)
        return to_unit(window, self.header, self.data_range, name)


def open_raster(image: Path | Array, data_range: DataRange | None = None, name: str = "the array") -> Raster:
    """An image file of any type, or an array (H, W) or (H, W, C), which goes by the name; not decoded yet.

    Raises:
        MissingFileError: there is no such file.
        ImageError: its header cannot be read, it is a stack, or a zarr lacks chunks.
    """
    if not isinstance(image, Path):
        array = np.asarray(image)
        return Raster(name, header_of(array, name), data_range, lambda top, bottom: array[top:bottom])
    opened = lru_cache(maxsize=1)(open_rows)

    @lru_cache(maxsize=1)
    def rows(top: int, bottom: int) -> Array:
        """The last rows are kept: the tiles beside each other share them."""
        return opened(image)(top, bottom)

    return Raster(str(image), read_header(image), data_range, rows)
