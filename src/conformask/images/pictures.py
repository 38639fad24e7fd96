"""Arrays as pictures: pixels of a display, planes of volumes, and titles.

Every image counts as a volume (D, H, W) here; an image with two axes is a volume of one plane.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from conformask.errors import InvalidArgumentError
from conformask.images.formats import DataRange, Places
from conformask.records.numbers import UNIT
from conformask.records.reading import CLEAN, Geometry, Reference, Size
from conformask.records.record import Array

HATCH = (255, 214, 64)
"""Colour of the hatch over hidden pixels, unless the viewer's user chooses another: a yellow that sky and
haematoxylin lack."""
PERIOD, STRIPE, EDGE = 12, 2.5, 1
"""Pixels of the hatch from stripe to stripe along a row, across a stripe, and across the dark edge on either
side, so that it is visible on every colour; as in the viewer."""
SHADE, OPACITY = 0.55, 0.9
"""Opacity of that edge, and of the whole hatch where nothing is trusted; as in the viewer."""
INFERNO = np.array(
    [
        [0, 0, 4],
        [31, 12, 72],
        [87, 16, 110],
        [138, 34, 106],
        [188, 55, 84],
        [227, 89, 51],
        [249, 142, 9],
        [249, 201, 50],
        [252, 255, 164],
    ],
    dtype=float,
)
"""Colours of matplotlib's inferno at nine even steps."""
GREEN_MAGENTA = np.array([[0, 1, 0], [1, 0, 1]], np.float32)
"""Colours of the channels of an image of two channels."""
COLORS = np.array([[0, 1, 1], [1, 1, 0], [1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
"""Colours of more channels, in turn: cyan, yellow, magenta, red, green, blue."""
SMALL = 160
"""Longest side of an image that is enlarged with visible pixels."""


def error_bytes(y: Array, y_hat: Array) -> tuple[Array, float]:
    """Return |y - y_hat| of images (C, H, W), mean over channels, as uint8 (H, W), and the value of 255."""
    error = np.abs(y - y_hat).mean(axis=0)
    scale = float(np.quantile(error, 0.995)) or 1.0
    return as_bytes(error[None] / scale), scale


def gray(image: Array) -> Array:
    """Return one channel, (H, W): the mean over channels if there are several."""
    return image if image.ndim == 2 else np.rint(image.mean(axis=-1)).astype(np.uint8)


def overlay(y_hat: Array, mask: Array, density: int = 1) -> Array:
    """Draw the output, hatched where it is hidden: the less trusted, the stronger.

    Args:
        y_hat: uint8 (H, W) or (H, W, 3).
        mask: uint8 of the same height and width, 255 = trusted.
        density: pixels for each pixel of the screen, if it is shown smaller.

    Returns:
        uint8 (H, W, 3); small images are enlarged, so that stripes are finer than their pixels.
    """
    factor = max(1, 2 * SMALL // max(mask.shape[:2]))
    image, grey_mask = (array.repeat(factor, 0).repeat(factor, 1) for array in (y_hat, gray(mask)))
    height, width = grey_mask.shape
    # the hatch depends on row + column alone: a window on one row of phases is a row of the image
    phases = np.arange(height + width - 1) % (density * PERIOD)
    ink, cover = (sliding_window_view(array[phases], width, axis=0) for array in _stripes(density))
    opacity = (OPACITY - OPACITY / 255 * grey_mask.astype(np.float32))[:, None]
    hatched = opacity * ink
    hatched += (1 - opacity * cover) * np.moveaxis(image.reshape(height, width, -1), -1, 1)
    return np.ascontiguousarray(np.moveaxis(np.rint(hatched, out=hatched).astype(np.uint8), 1, -1))


def shrunk_overlay(y_hat: Array, mask: Array, longest: int) -> Array:
    """Draw the overlay for a page that keeps at most `longest` pixels per side, and shows it smaller."""
    image, shrunk_mask = shrink(y_hat, longest), shrink(mask, longest)
    return overlay(image, shrunk_mask, density=max(1, round(2 * max(image.shape[:2]) / longest)))


def _stripes(density: int) -> tuple[Array, Array]:
    """Return colour times opacity, (period, 3), and opacity, (period, 1), by the sum of row and column."""
    positions = np.arange(density * PERIOD, dtype=np.float32)
    distances = np.minimum(positions, positions[::-1] + 1) / np.sqrt(2)
    stripe, edged = (
        np.clip(density * width / 2 - distances + 0.5, 0, 1) for width in (STRIPE, STRIPE + 2 * EDGE)
    )
    opacity = stripe + SHADE * (1 - stripe) * edged
    return stripe[:, None] * np.array(HATCH, np.float32), opacity[:, None]


def heat(error: Array) -> Array:
    """Map bytes to colours of inferno: black = no error, pale yellow = the scale's end."""
    stops = np.linspace(0, 255, len(INFERNO))
    table = np.stack([np.interp(np.arange(256), stops, channel) for channel in INFERNO.T], axis=-1)
    colors: Array = np.rint(table).astype(np.uint8)[gray(error)]
    return colors


def heat_between(values: Array, low: float, high: float) -> Array:
    """Draw the mean of channels (C, H, W) in the colours of heat, which begin and end at these values."""
    return heat(as_bytes((values.mean(axis=0, keepdims=True) - low) / (high - low)))


def map_ends(values: Array) -> tuple[float, float]:
    """Return the values at which the colours of a map begin and end: those of all but 0.5 % at each end."""
    low, high = np.quantile(values, [0.005, 0.995]).tolist()
    return low, high if high > low else low + 1.0


PHOTOGRAPHS: tuple[DataRange, ...] = (UNIT, (0.0, 255.0))
FILLED, HARDLY_FILLED = 0.8, 0.3
"""Share of the range from which on an image fills it, and the same for photographs that are not dark."""
DARK = 0.5
"""Share of the range up to which all values of a dark photograph lie."""
NARROWEST = 1e-3
"""The narrowest window, as a share of the range."""
WIDE = 0.05
"""Width of a window from which on whole percentages say enough."""
LOWEST, HIGHEST = (-3100, -150), (150, 32767)
"""Bounds of both ends of a range of Hounsfield units (HU), which reaches from below fat to above muscle."""


@dataclass(frozen=True)
class ContrastPreset:
    """A window of Hounsfield units, by its middle and width."""

    name: str
    level: float
    width: float


PRESETS = (
    ContrastPreset("Brain", 40, 80),
    ContrastPreset("Lung", -600, 1500),
    ContrastPreset("Bone", 400, 1800),
    ContrastPreset("Soft tissue", 40, 400),
)


@dataclass(frozen=True)
class Contrast:
    """The part of [0, 1] that is shown from black to white."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            raise InvalidArgumentError(
                f"a contrast window from {self.low} to {self.high}: its end must lie above its start"
            )

    def __call__(self, values: Array) -> Array:
        """Map the window to [0, 1]: black becomes 0, white 1."""
        if (self.low, self.high) == UNIT:
            return values
        windowed: Array = np.clip((values - self.low) / (self.high - self.low), 0, 1)
        return windowed

    @property
    def text(self) -> str:
        """What is said below a picture; empty for the full range."""
        if (self.low, self.high) == UNIT:
            return ""
        digits = 0 if self.high - self.low >= WIDE else 1
        low, high = (f"{100 * end:.{digits}f}" for end in (self.low, self.high))
        return f"Contrast stretched to {low} to {high}\N{NO-BREAK SPACE}% of the range"


def first_contrast(data_range: DataRange, values: tuple[float, float]) -> Contrast:
    """Return the window that an image is first shown in, from the ends of its values in [0, 1].

    Ranges without a unit, such as those of MR and of cameras with 12 bits, are often hardly filled: most
    values are shown. CT in HU is shown as it is, and so are photographs that are neither dark nor flat.
    """
    low, high = values
    filled = HARDLY_FILLED if data_range in PHOTOGRAPHS and high > DARK else FILLED
    if presets(data_range) or high - low > filled:
        return Contrast()
    return Contrast(low, max(high, low + NARROWEST))


def presets(data_range: DataRange) -> tuple[ContrastPreset, ...]:
    """Return the CT presets of which at least half lies in the range; none unless the range is one of HU."""
    low, high = data_range
    if not (LOWEST[0] <= low <= LOWEST[1] and HIGHEST[0] <= high <= HIGHEST[1]):
        return ()
    halves = ((preset, preset.width / 2) for preset in PRESETS)
    return tuple(
        preset
        for preset, half in halves
        if min(preset.level + half, high) - max(preset.level - half, low) >= half
    )


def shrink(image: Array, longest: int) -> Array:
    """Return the image with no side longer than `longest`, averaged where it has more pixels."""
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return image
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def colors_of(channels: int) -> Array | None:
    """Return a colour for each channel, (C, 3) in [0, 1]; None for 1 and 3 channels, grey and RGB."""
    if channels in (1, 3):
        return None
    return GREEN_MAGENTA if channels == 2 else COLORS[np.arange(channels) % len(COLORS)]


def in_colors(image: Array, colors: Array | None = None) -> Array:
    """Convert (C, H, W) in [0, 1] to uint8 (H, W) for one channel, else (H, W, 3): RGB, or a colour each.

    Colours are (C, 3) in [0, 1], those of `colors_of` unless they are given.
    """
    colors = colors_of(len(image)) if colors is None else colors
    if colors is None:
        return as_bytes(image)
    return as_bytes(np.tensordot(colors.T, np.clip(image, 0, 1), axes=1))


def as_bytes(image: Array) -> Array:
    """Convert (C, H, W) in [0, 1] to uint8 (H, W) or, for 3 channels, (H, W, 3); else their mean."""
    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if len(levels) == 3:
        return np.moveaxis(levels, 0, -1)
    mean: Array = levels[0] if len(levels) == 1 else np.rint(levels.mean(axis=0)).astype(np.uint8)
    return mean


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


TITLES = {
    "output": "Output ŷ",
    "overlay": "Overlay",
    "mask": "Mask",
    "truth": "Truth y",
    "input": "Input x",
    "error": "Error",
    "map": "Map",
}
"""Title by picture, in the order of display; the viewer's pane.js and state.js have the same."""


def titles_for(reference: Reference = CLEAN) -> dict[str, str]:
    """Return the title by picture of an image with this y: its own and the error's say if it is noisy."""
    noisy = {"truth": "Noisy reference y", "error": "Error to the noisy reference"}
    return TITLES | (noisy if reference.is_noisy else {})
