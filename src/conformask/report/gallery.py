"""Pictures for a page: an example's panels, and PNG as data URIs."""

import base64
import io
from dataclasses import dataclass

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from conformask.pictures.pixels import INFERNO, SMALL, gray, heat, shrink, shrunk_overlay
from conformask.records.evaluation import Example
from conformask.storage.as_arrays import Array


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
    """Return all pictures of an example, by name: input, truth, output, mask, overlay, error."""
    small = max(example.y_hat.shape[:2]) <= SMALL
    panels = {
        "input": ("Input x", example.x),
        "truth": ("Truth y", example.y),
        "output": ("Output ŷ", example.y_hat),
        "mask": ("Mask m", gray(example.mask)),
        "error": (error_label(example.error_scale), heat(example.error)),
    }
    by_name = {
        name: picture(label, example.name, array, longest, small) for name, (label, array) in panels.items()
    }
    hatched = shrunk_overlay(example.y_hat, example.mask, longest)
    return by_name | {"overlay": picture("Overlay", example.name, hatched, max(hatched.shape), False)}


def error_label(scale: float) -> str:
    """Return the caption of a picture of the error."""
    return f"Error |y − ŷ|, 0 to {scale:.2g}"


def heat_gradient() -> str:
    """Return the colour map as a CSS gradient, for the legend."""
    stops = ", ".join(f"rgb({r:.0f} {g:.0f} {b:.0f})" for r, g, b in INFERNO)
    return f"linear-gradient(to right, {stops})"


def data_uri(image: Array) -> str:
    """Encode a uint8 image, (H, W) or (H, W, 3), as a PNG inside a URI."""
    return "data:image/png;base64," + base64.b64encode(png(Image.fromarray(image.squeeze()))).decode("ascii")


def png(image: Image.Image) -> bytes:
    """Return the content of a PNG file, which names conformask as its software."""
    buffer, info = io.BytesIO(), PngInfo()
    info.add_text("Software", "conformask")
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def picture(label: str, name: str, image: Array, longest: int, pixelated: bool) -> Picture:
    """Make a picture of a uint8 image, no side longer than `longest`, described as the label of the name."""
    image = shrink(image, longest)
    height, width = image.shape[:2]
    return Picture(label, f"{label} of {name}", data_uri(image), width, height, pixelated)
