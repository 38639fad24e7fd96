"""Pyramids of masks: means of neighbouring pixels rounded down, level by level and block by block."""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from conformask.data.formats.header import Places
from conformask.storage.as_arrays import Array

SMALLEST = 512
"""Side, in pixels: a level whose plane fits into it has no smaller one."""
Factors = tuple[int, ...]
"""Factor of each axis: 2 where it is halved, else 1."""


def halvings(space: tuple[int, ...], spacing: tuple[float, ...] | None) -> Iterator[Factors]:
    """Yield factors from level to level, of (D, H, W) or (H, W), until a plane fits into SMALLEST pixels.

    The finest axes are halved first, so that the spacing becomes isotropic; z is not halved if the spacing is
    unknown.
    """
    steps = spacing or (math.inf, 1.0, 1.0)[-len(space) :]
    while max(space[-2:]) > SMALLEST:
        finest = min(step for step, side in zip(steps, space, strict=True) if side > 1)
        factors = tuple(
            2 if side > 1 and step < 2 * finest else 1 for step, side in zip(steps, space, strict=True)
        )
        yield factors
        steps = tuple(step * factor for step, factor in zip(steps, factors, strict=True))
        space = halved(space, factors)


def plane_halvings(space: tuple[int, ...]) -> Iterator[Factors]:
    """Yield factors that halve y and x whatever the spacing, until the plane fits into SMALLEST pixels."""
    while max(space[-2:]) > SMALLEST:
        factors = (*(1,) * (len(space) - 2), *(min(2, side) for side in space[-2:]))
        yield factors
        space = halved(space, factors)


def halved(shape: tuple[int, ...], factors: Factors) -> tuple[int, ...]:
    """Return the sides of the next level; odd sides are rounded up."""
    return tuple(-(-side // factor) for side, factor in zip(shape, factors, strict=True))


def means(values: Array, factors: Factors) -> Array:
    """Return means of neighbours along axes with factor 2, uint16, rounded down; odd last ones are kept."""
    odd = [(0, side % factor) for side, factor in zip(values.shape, factors, strict=True)]
    sums: Array = np.pad(values, odd, mode="edge").astype(np.uint32)
    for axis, factor in enumerate(factors):
        if factor == 2:
            pairs = np.moveaxis(sums, axis, 0)
            sums = np.moveaxis(pairs[::2] + pairs[1::2], 0, axis)
    return (sums // math.prod(factors)).astype(np.uint16)


def fill_level(smaller: Any, larger: Any, factors: Factors, block: tuple[int, ...]) -> None:
    """Fill a level with the means of the larger one; both are arrays of any kind with shape and windows."""
    for places in blocks_of(smaller.shape, block):
        window = tuple(
            slice(span.start * factor, min(span.stop * factor, side))
            for span, factor, side in zip(places, factors, larger.shape, strict=True)
        )
        smaller[places] = means(larger[window], factors)


def blocks_of(shape: tuple[int, ...], block: tuple[int, ...]) -> Iterator[Places]:
    """Yield the place of each block, in C order."""
    starts = (range(0, side, step) for side, step in zip(shape, block, strict=True))
    for corner in product(*starts):
        yield tuple(
            slice(start, min(start + step, side))
            for start, step, side in zip(corner, block, shape, strict=True)
        )
