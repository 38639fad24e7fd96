"""Colours as the page states them: rrggbb."""

import numpy as np

from conformask.errors import InvalidArgumentError
from conformask.types import Array


def parsed_colors(text: str) -> Array | None:
    """A colour for each channel, (C, 3) in [0, 1], from rrggbb,rrggbb,...; None of an empty text.

    Raises:
        InvalidArgumentError: it holds something else.
    """
    if not text:
        return None
    try:
        return np.array([list(bytes.fromhex(color)) for color in text.split(",")]).reshape(-1, 3) / 255
    except ValueError as error:
        raise InvalidArgumentError(
            f"colors={text}: give rrggbb for each channel, such as 00ff00,ff00ff"
        ) from error


def stated_colors(colors: Array) -> list[str]:
    """rrggbb of each colour, of (C, 3) in [0, 1]."""
    return [bytes(color).hex() for color in np.rint(255 * colors).astype(np.uint8)]
