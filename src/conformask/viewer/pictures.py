"""Images as PNG and JPEG, for the page."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from conformask.report.pictures import as_bytes, gray, heat, in_colors, overlay
from conformask.report.views import View
from conformask.types import Array, Family
from conformask.viewer.contrast import Contrast
from conformask.viewer.opened import Opened
from conformask.viewer.planes import Part, plane, reduction

PICTURES = ("input", "output", "truth", "error")
THUMBNAIL = 256
"""Longest side; smaller images are enlarged, so that stripes are finer than their pixels."""
QUALITY = 85
"""Of JPEG."""


def picture(values: Array, contrast: Contrast, colors: Array | None) -> Array:
    """Values (C, H, W) under a contrast window, uint8 (H, W) or (H, W, 3).

    Colours are (C, 3) in [0, 1]. They are those of the output's channels: an input with another number of
    channels is shown without them.
    """
    fitting = colors if colors is not None and len(colors) == len(values) else None
    return in_colors(contrast(values), fitting)


def error_picture(error: Array, scale: float) -> Array:
    """An error (1, H, W) as colours, up to the scale's end."""
    return heat(as_bytes(error / scale))


def thumbnail(
    image: Opened, family: Family, level: Tensor, view: View, at: int, steps: tuple[float, ...]
) -> bytes:
    """A plane of the output, hatched where hidden, as a JPEG with THUMBNAIL as its longer side.

    `steps` are along z, y and x.
    """
    rows, columns = view.sides(image.deep)
    part = Part(0, rows, 0, columns, reduction(view, image.deep))
    output, score = (plane(image.sources[what], image.deep, view, at, part) for what in ("output", "score"))
    mask = family.apply(torch.from_numpy(score)[None], level.cpu())[0].numpy()
    height, width = rows * steps[view.down.axis], columns * steps[view.right.axis]
    sides = [max(1, round(side * THUMBNAIL / max(height, width))) for side in (width, height)]
    shown, opened = (
        np.asarray(Image.fromarray(image).convert(mode).resize(sides, Image.Resampling.BOX))
        for image, mode in ((in_colors(output), "RGB"), (gray(as_bytes(mask)), "L"))
    )
    buffer = io.BytesIO()
    Image.fromarray(overlay(shown, opened)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def png(pixels: Array) -> bytes:
    """A uint8 image, (H, W) or (H, W, 3); little compressed, it does not travel far."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
