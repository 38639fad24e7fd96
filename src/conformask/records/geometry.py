"""Positions of pixels, their spacing and orientation; sizes of images, and which of them count as alike."""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from conformask.errors import InvalidArgumentError
from conformask.records.record import Array

CLOSE = 1e-3
"""Position tolerance in pixels, for images that should be in the same place."""
ENDS = ("LR", "PA", "IS")
"""Letters for the right, anterior and superior axes: the negative and the positive direction."""
OTHER = 1.1
"""Ratio from which two spacings count as different."""
UNITS = {"mm": 1e-3, "\u00b5m": 1e-6, "nm": 1e-9, "m": 1.0}
"""Units of length in metres."""


LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(nm|um|\u00b5m|\u03bcm|mm|m)")
"""Pattern of a length such as 5mm or 2.5 um."""
EXTENT = re.compile(rf"{LENGTH.pattern}\s*(?:\^?([23])|([\u00b2\u00b3]))")
"""Pattern of an area or a volume, such as 25mm2 or 8 um^3."""


@dataclass(frozen=True)
class PhysicalWindow:
    """A window that was given as a length."""

    sides: tuple[int, ...]
    """Sides in pixels, along each axis."""
    length: str
    """Its true length along all axes, such as 5 mm, or along each, such as 7.5 x 5 x 5 mm."""


@dataclass(frozen=True)
class Geometry:
    """Spacing along each spatial axis of an image, (D, H, W) or (H, W), and its position where known."""

    spacing: tuple[float, ...]
    """The step from pixel to pixel along each axis, above 0."""
    unit: str
    """Unit of the spacing: mm, \u00b5m, nm or m."""
    affine: tuple[tuple[float, ...], ...] | None = None
    """A 4 x 4 matrix from pixel indices (x, y, z) to right, anterior, superior in mm; None where unknown."""

    @property
    def text(self) -> str:
        """The spacing in words, for example "2 x 0.5 x 0.5 mm"."""
        return f"{' x '.join(f'{step:.4g}' for step in self.spacing)} {self.unit}"

    @property
    def orientation(self) -> str | None:
        """Directions of x, y and z, such as RAS: right, anterior, superior; None where unknown.

        Each axis is named by the patient direction nearest to it, as in nibabel.
        """
        if self.affine is None:
            return None
        steps = np.array(self.affine)[:3, :3]
        lengths = np.linalg.norm(steps, axis=0)
        left, _, right = np.linalg.svd(steps / np.where(lengths > 0, lengths, 1))
        directions, ends = left @ right, [""] * 3
        for axis in np.argsort(-abs(directions).max(axis=0), kind="stable"):
            row = int(abs(directions[:, axis]).argmax())
            ends[axis] = ENDS[row][int(directions[row, axis] > 0)]
            directions[row] = 0
        return "".join(ends)

    @property
    def without_place(self) -> "Geometry":
        """A copy with the same spacing and directions, and the first pixel at the origin."""
        if self.affine is None:
            return self
        matrix = np.array(self.affine)
        matrix[:3, 3] = 0
        return replace(self, affine=affine_of(matrix))

    def differs(self, other: "Geometry") -> str | None:
        """Return how another image of the same shape differs in position; None where it does not."""
        scale = UNITS[other.unit] / UNITS[self.unit]
        steps, others = np.array(self.spacing), scale * np.array(other.spacing)
        if steps.shape != others.shape or (abs(steps - others) > CLOSE * steps).any():
            return f"different spacings, {self.text} and {other.text}"
        if self.affine is None or other.affine is None:
            return None
        offset = abs(np.array(self.affine) - np.array(other.affine)).max()
        closest = CLOSE * steps.min() * UNITS[self.unit] / UNITS["mm"]
        if offset <= closest:
            return None
        turned = self.orientation != other.orientation
        axes = f", axes towards {self.orientation} and {other.orientation}" if turned else ""
        return f"affines that differ by {offset:.4g} mm{axes}"

    def window(self, length: str) -> PhysicalWindow:
        """Convert a length such as 5mm or 20 um to the next odd number of pixels along each axis, at least 1.

        A window of odd sides has a pixel in its middle.
        """
        number, unit = parsed(length)
        steps = [step * UNITS[self.unit] / UNITS[unit] for step in self.spacing]
        sides = tuple(1 + 2 * math.ceil((number / step - 1 - CLOSE) / 2) for step in steps)
        lengths = [
            np.format_float_positional(side * step, precision=4, fractional=False, trim="-")
            for side, step in zip(sides, steps, strict=True)
        ]
        text = lengths[0] if len(set(lengths)) == 1 else " x ".join(lengths)
        return PhysicalWindow(sides, f"{text} {unit}")

    def spans(self, sides: tuple[int, ...], length: str) -> bool:
        """Return whether these sides in pixels are the length of a `PhysicalWindow`, to half a pixel."""
        numbers, _, unit = length.rpartition(" ")
        lengths = [parsed(f"{number} {unit}") for number in numbers.split(" x ")]
        if len(sides) != len(self.spacing) or len(lengths) not in (1, len(sides)):
            return False
        steps = UNITS[self.unit] * np.array(self.spacing)
        exact = np.array([number * UNITS[of_number] for number, of_number in lengths]) / steps
        return bool((abs(sides - exact.clip(min=1)) <= 0.5 + CLOSE * exact).all())

    def pixels(self, extent: str) -> int:
        """Convert an area such as 25mm2 of planes, or a volume such as 8mm3, to whole pixels, at least 1."""
        match, axes = EXTENT.fullmatch(extent.strip()), len(self.spacing)
        power = match and (match[3] or {"\u00b2": "2", "\u00b3": "3"}[match[4]])
        if match is None or power != str(axes):
            raise InvalidArgumentError(
                f"patches {extent!r}: for images with {axes} axes, give a number of pixels, such as 50, or "
                f"{'an area' if axes == 2 else 'a volume'}, such as 25mm{axes}"
            )
        number, unit = parsed(match[1] + match[2])
        pixel = math.prod(step * UNITS[self.unit] / UNITS[unit] for step in self.spacing)
        return max(1, math.ceil(number / pixel - CLOSE))

    def is_finer_or_coarser(self, other: "Geometry") -> bool:
        """Return whether the other spacing differs by more than a tenth along some axis."""
        if len(self.spacing) != len(other.spacing):
            return False
        scale = UNITS[self.unit] / UNITS[other.unit]
        ratios = (scale * mine / theirs for mine, theirs in zip(self.spacing, other.spacing, strict=True))
        return any(not 1 / OTHER <= ratio <= OTHER for ratio in ratios)


@dataclass(frozen=True)
class Ground:
    """Where an image lies in a coordinate system, such as that of a map."""

    system: int | None
    """The EPSG code of the system; None where it has none."""
    corners: tuple[tuple[float, float], ...]
    """The outer corners of the first pixel, of the last of its row, and of the last of its column."""

    def differs(self, other: "Ground", space: tuple[int, ...]) -> str | None:
        """Return how another image lies elsewhere than this one of H x W pixels; None where it does not."""
        if None not in (self.system, other.system) and self.system != other.system:
            return f"the coordinate systems EPSG:{other.system} and EPSG:{self.system}"
        first, right, down = mine = np.array(self.corners)
        pixel = min(np.linalg.norm(right - first) / space[1], np.linalg.norm(down - first) / space[0])
        offset = float(abs(mine - np.array(other.corners)).max() / pixel)
        return None if offset <= CLOSE else f"corners that lie up to {offset:.4g} pixels of y_hat apart"


def parsed(length: str) -> tuple[float, str]:
    """Parse a length: 5mm gives (5.0, "mm")."""
    match = LENGTH.fullmatch(length.strip())
    if match is None or float(match[1]) <= 0:
        raise InvalidArgumentError(
            f"window {length!r}: give a number of pixels, such as 9, or a length, such as 5mm or 20um"
        )
    return float(match[1]), "\u00b5m" if match[2] in ("um", "\u03bcm") else match[2]


def affine_of(matrix: Array) -> tuple[tuple[float, ...], ...]:
    """Return a 4 x 4 matrix as the tuples that a Geometry keeps."""
    return tuple(tuple(map(float, row)) for row in np.asarray(matrix))


Size = tuple[int, ...]
"""The spatial sides of an image in pixels, (H, W) or (D, H, W)."""
FACTOR = 2
"""Factor by which sides may be longer or shorter than the known ones, if there are many sizes."""
RGB = 3
MOST_CHANNELS = 16
"""Most channels of an array without stated axes; more suggest that its last axis is a side."""
MANY = 4
"""Number of sizes from which on images count as having many."""


def among(size: Size, sizes: Collection[Size], *, many: bool = False, factor: int = FACTOR) -> bool:
    """Return whether a size is a known one or, if there are many, within a factor of their range."""
    if size in sizes or not (many or len(sizes) >= MANY):
        return size in sizes
    smallest, largest = ends(sizes)
    sides = zip(size, smallest, largest, strict=False)
    return len(size) == len(smallest) and all(low / factor <= s <= high * factor for s, low, high in sides)


def ends(sizes: Collection[Size]) -> tuple[Size, Size]:
    """Return the shortest and the longest of each side."""
    shortest, longest = (tuple(map(end, zip(*sizes, strict=True))) for end in (min, max))
    return shortest, longest


def covered(sizes: Collection[Size], *, many: bool = False) -> str:
    """Describe the sizes that `among` accepts."""
    if not (many or len(sizes) >= MANY):
        return f"images of {', '.join(map(size_text, sizes))} pixels"
    smallest, largest = map(size_text, ends(sizes))
    between = smallest if smallest == largest else f"{smallest} to {largest}"
    return f"images of {between} pixels, with sides up to {FACTOR} times as long or short"


def size_text(size: Size) -> str:
    """Return a size as text, such as 256 x 256."""
    return " x ".join(map(str, size))


def extra_channels(x_channels: int, channels: int) -> int:
    """Return how many of x's last channels are not part of the image that y_hat is compared with.

    They are all channels beyond those of y_hat, such as a map of holes, except for a colour image with grey
    y_hat.
    """
    is_colour_to_grey = (x_channels, channels) == (RGB, 1)
    return 0 if is_colour_to_grey else max(0, x_channels - channels)


def extra_text(x_channels: int, channels: int) -> str | None:
    """Return a note on channels of x that are not part of the image; None where there are none."""
    if extra_channels(x_channels, channels) == 0:
        return None
    return (
        f"x has {x_channels} channels, but y_hat has {channels}: the first channels of x are compared with "
        "y_hat, and the packaged score uses the others (holes, noise, an uncertainty) only after it is "
        "trained (conformask train)"
    )
