"""Conversion of [0, 1] to integers."""

import numpy as np

from conformask.types import Array


def rounded_down(values: Array, bits: int = 16) -> Array:
    """Return integers of 8 or 16 bits, rounded down: none, when read back, is above its value."""
    top = 2.0**bits - 1
    unit = np.clip(values, 0, 1)
    level: Array = np.floor(unit.astype(np.float64) * top + 0.5)
    # float32 level / top may lie just below the exact quotient, so compare what will be read back
    level -= (level / top).astype(np.float32) > unit
    return level.astype(np.uint8 if bits == 8 else np.uint16)


def nearest(values: Array, bits: int) -> Array:
    """Return the nearest integers of 8 or 16 bits."""
    level: Array = np.floor(np.clip(values, 0, 1).astype(np.float64) * (2.0**bits - 1) + 0.5)
    return level.astype(np.uint8 if bits == 8 else np.uint16)
