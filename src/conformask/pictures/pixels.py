"""Arrays as pixels of a display: bytes, colours of channels, heat maps, and hatched outputs."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from conformask.storage.as_arrays import Array

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
