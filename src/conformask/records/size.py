"""Sizes of images and which of them count as alike; channels, and which of them belong to the image."""

from collections.abc import Collection

Size = tuple[int, ...]
"""The spatial sides of an image in pixels, (H, W) or (D, H, W)."""
FACTOR = 2
"""Factor by which sides may be longer or shorter than the known ones, if there are many sizes."""
RGB = 3
MOST_CHANNELS = 16
"""Most channels of an array without stated axes; more suggest that its last axis is a side."""
MANY = 4
"""Number of sizes from which on images count as having many."""


def among(size: Size, sizes: Collection[Size], *, many: bool = False, factor: int = FACTOR) -> bool:
    """Return whether a size is a known one or, if there are many, within a factor of their range."""
    if size in sizes or not (many or len(sizes) >= MANY):
        return size in sizes
    smallest, largest = ends(sizes)
    sides = zip(size, smallest, largest, strict=False)
    return len(size) == len(smallest) and all(low / factor <= s <= high * factor for s, low, high in sides)


def ends(sizes: Collection[Size]) -> tuple[Size, Size]:
    """Return the shortest and the longest of each side."""
    shortest, longest = (tuple(map(end, zip(*sizes, strict=True))) for end in (min, max))
    return shortest, longest


def covered(sizes: Collection[Size], *, many: bool = False) -> str:
    """Describe the sizes that `among` accepts."""
    if not (many or len(sizes) >= MANY):
        return f"images of {', '.join(map(size_text, sizes))} pixels"
    smallest, largest = map(size_text, ends(sizes))
    between = smallest if smallest == largest else f"{smallest} to {largest}"
    return f"images of {between} pixels, with sides up to {FACTOR} times as long or short"


def size_text(size: Size) -> str:
    """Return a size as text, such as 256 x 256."""
    return " x ".join(map(str, size))


def extra_channels(x_channels: int, channels: int) -> int:
    """Return how many of x's last channels are not part of the image that y_hat is compared with.

    They are all channels beyond those of y_hat, such as a map of holes, except for a colour image with grey
    y_hat.
    """
    is_colour_to_grey = (x_channels, channels) == (RGB, 1)
    return 0 if is_colour_to_grey else max(0, x_channels - channels)


def extra_text(x_channels: int, channels: int) -> str | None:
    """Return a note on channels of x that are not part of the image; None where there are none."""
    if extra_channels(x_channels, channels) == 0:
        return None
    return (
        f"x has {x_channels} channels, but y_hat has {channels}: the first channels of x are compared with "
        "y_hat, and the packaged score uses the others (holes, noise, an uncertainty) only after it is "
        "trained (conformask train)"
    )
