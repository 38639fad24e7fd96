"""Triplets of one shape, stacked."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice

import numpy as np
import torch

from conformask.arithmetic import best_device
from conformask.data.images import Image
from conformask.errors import ImageError, InvalidArgumentError
from conformask.types import Batch, Triplet

BATCH_SIZE = 16
"""Images that are scored at once."""
Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None, tuple[int, ...] | None]
"""Shapes of x, y_hat, y and cues."""
PIXELS, PIXELS_OF_PROCESSOR = 2**24, 2**18
"""Pixels in the largest batch, with an accelerator and on the CPU, where larger ones are no quicker."""


def batches_of(triplets: Iterable[Triplet], batch_size: int = BATCH_SIZE) -> Iterator[Batch]:
    """Yield batches of up to `batch_size` consecutive triplets of the same shapes, in order.

    A batch crosses no multiple of `batch_size`, nor holds more than PIXELS (on a CPU PIXELS_OF_PROCESSOR),
    unless one image does.
    """
    if batch_size < 1:
        raise InvalidArgumentError(f"batch_size is {batch_size}; give at least 1")
    pixels = PIXELS_OF_PROCESSOR if best_device().type == "cpu" else PIXELS

    def key(numbered: tuple[int, Triplet]) -> tuple[int, Shapes]:
        number, triplet = numbered
        return number // batch_size, _shapes(triplet)

    for (_, shapes), members in groupby(enumerate(triplets), key):
        largest = max(1, min(batch_size, pixels // math.prod(shapes[1][1:])))
        while batch := list(islice(members, largest)):
            yield _stacked([triplet for _, triplet in batch])


def of_same_channels(triplets: Iterable[Triplet]) -> Iterator[Triplet]:
    """Yield the triplets in order.

    Raises:
        ImageError: the channels of one differ from those of the first.
    """
    first: Triplet | None = None
    for triplet in triplets:
        first = first or triplet
        _check_channels(first, triplet)
        yield triplet


def _check_channels(first: Triplet, triplet: Triplet) -> None:
    for role in ("x", "y_hat", *(["cues"] if first.cues is not None else [])):
        expected, channels = len(getattr(first, role)), len(getattr(triplet, role))
        if channels != expected:
            raise ImageError(
                f"mixed channels: {role} of {triplet.name!r} has {channels}, but {role} of {first.name!r} "
                f"has {expected}; use images of one kind"
            )


def _shapes(triplet: Triplet) -> Shapes:
    y, cues = (None if image is None else image.shape for image in (triplet.y, triplet.cues))
    return triplet.x.shape, triplet.y_hat.shape, y, cues


def _stacked(triplets: Sequence[Triplet]) -> Batch:
    x, y_hat = (torch.from_numpy(np.stack([getattr(t, role) for t in triplets])) for role in ("x", "y_hat"))
    category = tuple(t.category for t in triplets if t.category is not None)
    weight = tuple(t.weight for t in triplets if t.weight is not None)
    return Batch(
        tuple(triplet.name for triplet in triplets),
        x,
        y_hat,
        _known([triplet.y for triplet in triplets]),
        category or None,
        weight or None,
        _known([triplet.region for triplet in triplets]),
        tuple(triplet.geometry for triplet in triplets),
        tuple(triplet.clipped for triplet in triplets),
        _known([triplet.cues for triplet in triplets]),
        _known([triplet.noise for triplet in triplets]),
        _known([triplet.y_labels for triplet in triplets]),
    )


def _known(images: Sequence[Image | None]) -> torch.Tensor | None:
    """Stack the images that are known; None where none is."""
    known = [image for image in images if image is not None]
    return torch.from_numpy(np.stack(known)) if known else None
