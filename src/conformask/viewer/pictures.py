"""Images as PNG and JPEG, for the page."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from conformask.masks.mask_family import Family
from conformask.pictures.pixels import as_bytes, gray, in_colors, overlay
from conformask.pictures.views import View
from conformask.storage.as_arrays import Array
from conformask.viewer.contrast import Contrast
from conformask.viewer.planes import Part, plane, reduction
from conformask.viewer.viewed_image import ViewedImage

PICTURES = ("input", "output", "truth", "error", "map")
THUMBNAIL = 256
"""Longest side, in pixels; smaller images are enlarged, so that stripes are finer than their pixels."""
OUTSIDE, VEIL = 128, 0.8
"""Grey level over what is outside a region, and its opacity."""
QUALITY = 85
"""Quality of JPEG."""


def picture(values: Array, contrast: Contrast, colors: Array | None) -> Array:
    """Draw values (C, H, W) under a contrast window, uint8 (H, W) or (H, W, 3).

    Colours are (C, 3) in [0, 1]. They belong to the output's channels: an input with another number of
    channels is shown without them.
    """
    channel_colors = colors if colors is not None and len(colors) == len(values) else None
    return in_colors(contrast(values), channel_colors)


def outside_layer(region: Array) -> Array:
    """Return grey and alpha, uint8 (H, W, 2), opaque where a region (1, H, W) is 0."""
    opacity = as_bytes(1 - region)
    return np.stack([np.full_like(opacity, OUTSIDE), opacity], axis=-1)


def thumbnail(
    image: ViewedImage, family: Family, level: Tensor, view: View, index: int, steps: tuple[float, ...]
) -> bytes:
    """Draw a plane of the output, hatched where hidden, grey outside its region, as a JPEG.

    Its longer side is THUMBNAIL; `steps` are along z, y and x.
    """
    rows, columns = view.sides(image.deep)
    part = Part(0, rows, 0, columns, reduction(view, image.deep))
    output, score = (
        plane(image.sources[name], image.deep, view, index, part) for name in ("output", "score")
    )
    output_pixels, mask = (
        in_colors(output),
        family.apply(torch.from_numpy(score)[None], level.cpu())[0].numpy(),
    )
    if "region" in image.sources:
        region = plane(image.sources["region"], image.deep, view, index, part)
        output_pixels, mask = grey_out(output_pixels, region), 1 - region * (1 - mask)
    height, width = rows * steps[view.down.axis], columns * steps[view.right.axis]
    sides = [max(1, round(side * THUMBNAIL / max(height, width))) for side in (width, height)]
    small_output, small_mask = (
        np.asarray(Image.fromarray(array).convert(mode).resize(sides, Image.Resampling.BOX))
        for array, mode in ((output_pixels, "RGB"), (gray(as_bytes(mask)), "L"))
    )
    buffer = io.BytesIO()
    # the hatch is drawn after shrinking, or its stripes would blur into a tint
    Image.fromarray(overlay(small_output, small_mask)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def grey_out(image: Array, region: Array) -> Array:
    """Draw grey over an image, uint8 (H, W) or (H, W, 3), outside a region (1, H, W)."""
    veil = VEIL * (1 - region.reshape(*image.shape[:2], *[1] * (image.ndim - 2)))
    pixels: Array = np.rint(image + veil * (OUTSIDE - image.astype(np.float32))).astype(np.uint8)
    return pixels


def png(pixels: Array) -> bytes:
    """Encode a uint8 image, (H, W), (H, W, 2) or (H, W, 3), with little compression, as it stays local."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
