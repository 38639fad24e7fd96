"""Pictures for a page: an example's panels, and PNG as data URIs."""

import base64
import io
from dataclasses import dataclass

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from conformask.pictures.pixels import INFERNO, SMALL, gray, heat, shrink, shrunk_overlay
from conformask.pictures.titles import TITLES, titles_for
from conformask.records.evaluation import Example
from conformask.records.reference import CLEAN, Reference
from conformask.storage.as_arrays import Array
from conformask.wording.numbers import figure


@dataclass(frozen=True)
class Picture:
    """An image ready for the page."""

    label: str
    alt: str
    src: str
    width: int
    height: int
    pixelated: bool


def pictures(
    example: Example,
    longest: int,
    data_range: tuple[float, float] | None = None,
    reference: Reference = CLEAN,
) -> dict[str, Picture]:
    """Return all pictures of an example, by name, in the order of TITLES.

    Args:
        example: one image of the gallery.
        longest: the longest side of a picture.
        data_range: the values of black and white in y and y_hat, for the unit of the error.
        reference: what y is.
    """
    small = max(example.y_hat.shape[:2]) <= SMALL
    hatched = shrunk_overlay(example.y_hat, example.mask, longest)
    arrays = {
        "output": example.y_hat,
        "overlay": hatched,
        "mask": gray(example.mask),
        "truth": example.y,
        "input": example.x,
        "error": heat(example.error),
    }
    labels = titles_for(reference) | {"error": error_label(example.error_scale, data_range, reference)}
    sizes = {"overlay": (max(hatched.shape), False)}
    return {
        name: picture(labels[name], example.name, arrays[name], *sizes.get(name, (longest, small)))
        for name in TITLES
        if name in arrays
    }


def error_label(
    scale: float, data_range: tuple[float, float] | None = None, reference: Reference = CLEAN
) -> str:
    """Return the caption of a picture of the error, with its largest value in the unit of the images."""
    low, high = data_range or (0.0, 1.0)
    return f"{titles_for(reference)['error']} |y − ŷ|, 0 to {float(figure(scale * (high - low))):g}"


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
