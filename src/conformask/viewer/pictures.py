"""Images as PNG and JPEG, for the page."""

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from conformask.report.pictures import as_bytes, error_bytes, heat, overlay
from conformask.types import Array, Batch, Images

THUMBNAIL = 256
"""Longest side."""
QUALITY = 85
"""Of JPEG."""


def thumbnail(y_hat: Images, mask: Images) -> bytes:
    """The veiled output as a JPEG, no side longer than THUMBNAIL."""
    veiled = Image.fromarray(overlay(as_bytes(_only(y_hat)), as_bytes(_only(mask))))
    veiled.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    veiled.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def png(pixels: Array) -> bytes:
    """A uint8 image, (H, W) or (H, W, 3); little compressed, it does not travel far."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def error_scale(batch: Batch) -> float:
    """The error at which the colours end."""
    return _error(batch)[1]


def _error(batch: Batch) -> tuple[Array, float]:
    return error_bytes(_only(batch.truth()), _only(batch.y_hat))


def _only(images: Images) -> Array:
    """The one image of a batch, (C, H, W)."""
    (image,) = images.detach().cpu().numpy()
    return np.asarray(image)


PICTURES: Mapping[str, Callable[[Batch], Array]] = {
    "input": lambda batch: as_bytes(_only(batch.x)),
    "output": lambda batch: as_bytes(_only(batch.y_hat)),
    "truth": lambda batch: as_bytes(_only(batch.truth())),
    "error": lambda batch: heat(_error(batch)[0]),
}
