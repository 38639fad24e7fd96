"""Parts of planes, read from images of any size, and the values of single pixels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from conformask.errors import InvalidArgumentError, MissingFileError
from conformask.pictures.views import Places, Point, View
from conformask.records.size import Size
from conformask.storage.as_arrays import Array

MOST_PIXELS = 4096**2
"""Most pixels sent at once: a larger plane is sent reduced, and in parts when zoomed in."""
REDUCED_SIDE = 2048
"""Longest side of a reduced plane, in pixels."""
STRIP = 2**22
"""Number of pixels that are read at once."""


@dataclass(frozen=True)
class PlaneSource:
    """Values of an image, read by windows."""

    size: Size
    """Size (D, H, W)."""
    read: Callable[[Places], Array]
    """Function that reads a window, float32 (C, D, H, W)."""
    thinned: bool = False
    """True if reduction takes the first of several pixels, as masks need, instead of their mean."""


@dataclass(frozen=True)
class Part:
    """A part of a plane as shown; step x step pixels become one."""

    top: int
    bottom: int
    left: int
    right: int
    step: int = 1


def reduction(view: View, size: Size) -> int:
    """Return the step at which a whole plane is sent."""
    rows, columns = view.sides(size)
    return 1 if rows * columns <= MOST_PIXELS else -(-max(rows, columns) // REDUCED_SIDE)


def check_part(view: View, size: Size, index: int, part: Part) -> None:
    """Raise for a plane or part that an image does not have, or that is too large to be sent.

    Raises:
        MissingFileError: there is no such plane, or no such part of it.
        InvalidArgumentError: it has too many pixels, or a step that no image has.
    """
    if not 0 <= index < size[view.axis]:
        raise MissingFileError(
            f"there is no plane {index} along axis {view.axis}: the image has {size[view.axis]}"
        )
    rows, columns = view.sides(size)
    if not (0 <= part.top < part.bottom <= rows and 0 <= part.left < part.right <= columns and part.step > 0):
        raise MissingFileError(f"there is no such part of a plane of {rows} x {columns} pixels")
    if part.step > MOST_PIXELS:
        raise InvalidArgumentError(f"step {part.step}: give at most {MOST_PIXELS}")
    if (part.bottom - part.top) * (part.right - part.left) > MOST_PIXELS * part.step**2:
        raise InvalidArgumentError(f"at most {MOST_PIXELS} pixels are sent at once: ask for a larger step")


def plane(source: PlaneSource, size: Size, view: View, index: int, part: Part) -> Array:
    """Read a part of a plane as shown, (C, rows, columns), of an image that lies under one of this size.

    It reads strip by strip, so that a large plane is never in memory whole.
    """
    columns = part.left, part.right
    rows = max(1, STRIP // (part.right - part.left) // part.step) * part.step
    strips = []
    for top in range(part.top, part.bottom, rows):
        places = view.places(size, index, (top, min(top + rows, part.bottom)), columns)
        strips.append(_reduce(view.orient(_read_resampled(source, size, places)), part.step, source.thinned))
    return np.ascontiguousarray(np.concatenate(strips, axis=1))


def values_at(sources: Mapping[str, PlaneSource], size: Size, point: Point) -> dict[str, list[float]]:
    """Return the values of each source, channel by channel, at a pixel of an image of this size.

    Raises:
        MissingFileError: there is no such pixel.
    """
    if not all(0 <= coordinate < side for coordinate, side in zip(point, size, strict=True)):
        z, y, x = point
        raise MissingFileError(f"there is no pixel x {x}, y {y}, z {z}: the image has {size} (D, H, W)")
    places = tuple(slice(coordinate, coordinate + 1) for coordinate in point)
    return {name: _read_resampled(source, size, places).ravel().tolist() for name, source in sources.items()}


def _read_resampled(source: PlaneSource, size: Size, places: Places) -> Array:
    """Read a window at this image size from a source of any size; each pixel is the nearest one."""
    if source.size == size:
        return source.read(places)
    sides = zip(places, source.size, size, strict=True)
    # pixel centres: (i + 1/2) / side of the shown image, times the side of the source, in integers
    nearest = [
        (2 * np.arange(window.start, window.stop) + 1) * source_side // (2 * side)
        for window, source_side, side in sides
    ]
    z, y, x = (slice(int(indices[0]), int(indices[-1]) + 1) for indices in nearest)
    values = source.read((z, y, x))
    for axis, indices in enumerate(nearest, start=1):
        values = values.take(indices - indices[0], axis)
    return values


def _reduce(values: Array, step: int, thinned: bool) -> Array:
    if step == 1 or thinned:
        return values[:, ::step, ::step]
    for axis, side in enumerate(values.shape[1:], start=1):
        starts = np.arange(0, side, step)
        counts = np.diff(starts, append=side).astype(np.float32)
        sums = np.add.reduceat(values, starts, axis=axis)
        values = sums / (counts[:, None] if axis == 1 else counts)
    return values
