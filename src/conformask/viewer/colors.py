"""Colours as the page writes them: rrggbb."""

import numpy as np

from conformask.errors import InvalidArgumentError
from conformask.types import Array


def parsed_colors(text: str) -> Array | None:
    """Parse rrggbb,rrggbb,... into a colour for each channel, (C, 3) in [0, 1]; return None for no text.

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
    """Return rrggbb for each colour, from (C, 3) in [0, 1]."""
    return [bytes(color).hex() for color in np.rint(255 * colors).astype(np.uint8)]
