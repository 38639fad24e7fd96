"""Pictures of the gallery: veiled outputs, heat maps, and PNG as data URIs."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from conformask.records.evaluation import Example
from conformask.storage.as_arrays import Array

VEIL = np.array([86, 180, 233], np.float32)
"""Okabe and Ito's sky blue: rare where details are, in photographs and in stained tissue."""
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
"""matplotlib's inferno at nine even steps."""
GREEN_MAGENTA = np.array([[0, 1, 0], [1, 0, 1]], np.float32)
"""Of two channels."""
COLORS = np.array([[0, 1, 1], [1, 1, 0], [1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
"""Of more channels, in turn: cyan, yellow, magenta, red, green, blue."""
SMALL = 160
"""Images with no side longer than this are enlarged with visible pixels."""


@dataclass(frozen=True)
class Picture:
    """An image ready for the page."""

    label: str
    alt: str
    src: str
    width: int
    height: int
    pixelated: bool


def pictures(example: Example, longest: int) -> dict[str, Picture]:
    """All pictures of an example, by name: input, truth, output, mask, overlay, error."""
    panels = {
        "input": ("Input x", example.x),
        "truth": ("Truth y", example.y),
        "output": ("Output ŷ", example.y_hat),
        "mask": ("Mask m", gray(example.mask)),
        "overlay": ("Output, veiled", overlay(example.y_hat, example.mask)),
        "error": (error_label(example.error_scale), heat(example.error)),
    }
    return {
        name: picture(label, example.name, array, longest, max(example.y_hat.shape[:2]) <= SMALL)
        for name, (label, array) in panels.items()
    }


def error_label(scale: float) -> str:
    """What stands under a picture of the error."""
    return f"Error |y − ŷ|, 0 to {scale:.2g}"


def error_bytes(y: Array, y_hat: Array) -> tuple[Array, float]:
    """|y - y_hat| of images (C, H, W), averaged over channels, as uint8 (H, W), and what 255 stands for."""
    error = np.abs(y - y_hat).mean(axis=0)
    scale = float(np.quantile(error, 0.995)) or 1.0
    return as_bytes(error[None] / scale), scale


def gray(image: Array) -> Array:
    """One channel: the mean over channels, where there are any."""
    return image if image.ndim == 2 else np.rint(image.mean(axis=-1)).astype(np.uint8)


def overlay(y_hat: Array, mask: Array) -> Array:
    """The output under a blue veil, as dense as the mask is closed; structure shows through faintly."""
    color = y_hat.reshape(*y_hat.shape[:2], -1).astype(np.float32)
    closed = 1 - gray(mask)[..., None].astype(np.float32) / 255
    veil = VEIL * (0.6 + 0.4 * color.mean(axis=-1, keepdims=True) / 255)
    veiled: Array = np.rint(color + closed * (veil - color)).astype(np.uint8)
    return veiled


def heat(error: Array) -> Array:
    """Bytes to colours of inferno: black = no error, pale yellow = the scale's end."""
    at = np.linspace(0, 255, len(INFERNO))
    table = np.stack([np.interp(np.arange(256), at, channel) for channel in INFERNO.T], axis=-1)
    colors: Array = np.rint(table).astype(np.uint8)[gray(error)]
    return colors


def heat_gradient() -> str:
    """The colour map as a CSS gradient, for the legend."""
    stops = ", ".join(f"rgb({r:.0f} {g:.0f} {b:.0f})" for r, g, b in INFERNO)
    return f"linear-gradient(to right, {stops})"


def data_uri(image: Array) -> str:
    """A uint8 image, (H, W) or (H, W, 3), as a PNG inside a URI."""
    return "data:image/png;base64," + base64.b64encode(png(Image.fromarray(image.squeeze()))).decode("ascii")


def png(image: Image.Image) -> bytes:
    """The content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def picture(label: str, name: str, image: Array, longest: int, pixelated: bool) -> Picture:
    """A uint8 image, no side longer than `longest`, described as the label of the name."""
    image = _shrunk(image, longest)
    height, width = image.shape[:2]
    return Picture(label, f"{label} of {name}", data_uri(image), width, height, pixelated)


def _shrunk(image: Array, longest: int) -> Array:
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return image
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def in_colors(image: Array) -> Array:
    """(C, H, W) in [0, 1] -> uint8 (H, W) of one channel, else (H, W, 3): RGB, or a colour each."""
    if len(image) in (1, 3):
        return as_bytes(image)
    colors = GREEN_MAGENTA if len(image) == 2 else COLORS[np.arange(len(image)) % len(COLORS)]
    return as_bytes(np.tensordot(colors.T, np.clip(image, 0, 1), axes=1))


def as_bytes(image: Array) -> Array:
    """(C, H, W) in [0, 1] -> uint8 (H, W) or (H, W, 3); of other channel counts the mean."""
    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if len(levels) == 3:
        return np.moveaxis(levels, 0, -1)
    return np.asarray(np.rint(levels.mean(axis=0)), dtype=np.uint8)
