"""Cues: maps beside y_hat, of any range, that say where it may be wrong."""

from pathlib import Path

import numpy as np

from conformask.data.datasets import UnreadImage
from conformask.data.decoding import decode_with_header
from conformask.data.formats.header import channels_first, image_of_array
from conformask.data.images import Image
from conformask.errors import ImageError
from conformask.records.reading import Reading
from conformask.records.size import Size, size_text


def read_cues(image: UnreadImage, reading: Reading, name: str) -> Image:
    """Read maps as float32 (K, *space), with the values that the file or array holds; `name` is for errors.

    Raises:
        MissingFileError: there is no such file.
        ImageError: it cannot be decoded, or holds NaN or infinite values.
    """
    if isinstance(image, Path):
        name, (array, header) = str(image), decode_with_header(image, reading.of("cues"))
    else:
        array, header = image_of_array(np.asarray(image), name, reading.axes)
    cues: Image = channels_first(array, len(header.space)).astype(np.float32)
    if not np.isfinite(cues).all():
        raise ImageError(
            f"{name} holds NaN, or values that are infinite in float32: give a finite value at every pixel"
        )
    return cues


def cues_at(size: Size, cues: Image, name: str) -> Image:
    """Return maps at the size of y_hat; those of a whole fraction of it are repeated.

    Raises:
        ImageError: they have another size.
    """
    check_size(size, cues.shape[1:], name)
    for axis, (side, part) in enumerate(zip(size, cues.shape[1:], strict=True), start=1):
        cues = cues if side == part else cues.repeat(side // part, axis=axis)
    return np.ascontiguousarray(cues)


def check_size(size: Size, space: Size, name: str) -> None:
    """Raise for maps with sides `space` beside a y_hat of this size.

    Raises:
        ImageError: they are no whole fraction of it; names `name`.
    """
    if len(space) != len(size) or any(side % part for side, part in zip(size, space, strict=True)):
        raise ImageError(
            f"{name} has {size_text(space)} pixels, but y_hat has {size_text(size)}: give maps of its size, "
            "or of a whole fraction of it"
        )
