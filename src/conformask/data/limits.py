"""Limit on the memory of an image: declared sizes are checked before anything is decoded."""

import os

from conformask.errors import ImageError, InvalidArgumentError

MAX_IMAGE_BYTES = 2 * 2**30
"""Largest size of an image as float32, unless the environment variable VARIABLE sets another."""
FLOAT32 = 4
"""Bytes per value in memory."""
VARIABLE = "CONFORMASK_MAX_IMAGE_BYTES"


def check_memory(what: str, size: int) -> None:
    """Raise if something takes more bytes than allowed; messages call it `what`.

    Raises:
        ImageError: it takes more.
        InvalidArgumentError: the environment variable is not a number of bytes.
    """
    limit = _limit()
    if size > limit:
        raise ImageError(
            f"{what} takes {size} bytes of memory, but only {limit} are allowed: cut it into smaller "
            f"images, or set CONFORMASK_MAX_IMAGE_BYTES to {size}"
        )


def _limit() -> int:
    value = os.environ.get(VARIABLE, str(MAX_IMAGE_BYTES))
    if not (value.isascii() and value.isdigit()):
        raise InvalidArgumentError(f"{VARIABLE} is {value!r}; give a number of bytes, such as 4294967296")
    return int(value)
