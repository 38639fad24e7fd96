"""Sizes of images and which of them are alike; channels, and which of them are an image."""

from collections.abc import Collection

Size = tuple[int, ...]
"""The spatial sides of an image in pixels, (H, W) or (D, H, W)."""
FACTOR = 2
"""How many times longer or shorter than known sides those of images of many sizes may be."""
RGB = 3
MANY = 4
"""Sizes from which on images are said to have many."""


def among(size: Size, sizes: Collection[Size], *, many: bool = False) -> bool:
    """Whether a size is one of the known sizes or, where these are many, up to FACTOR beyond their ends."""
    if size in sizes or not (many or len(sizes) >= MANY):
        return size in sizes
    smallest, largest = ends(sizes)
    sides = zip(size, smallest, largest, strict=False)
    return len(size) == len(smallest) and all(low / FACTOR <= s <= high * FACTOR for s, low, high in sides)


def ends(sizes: Collection[Size]) -> tuple[Size, Size]:
    """The shortest and the longest of each side."""
    shortest, longest = (tuple(map(end, zip(*sizes, strict=True))) for end in (min, max))
    return shortest, longest


def covered(sizes: Collection[Size], *, many: bool = False) -> str:
    """Which sizes `among` takes, as a person writes it."""
    if not (many or len(sizes) >= MANY):
        return f"images of {', '.join(map(size_text, sizes))} pixels"
    smallest, largest = map(size_text, ends(sizes))
    between = smallest if smallest == largest else f"{smallest} to {largest}"
    return f"images of {between} pixels, with sides up to {FACTOR} times as long or short"


def size_text(size: Size) -> str:
    """256 x 256."""
    return " x ".join(map(str, size))


def extra_channels(x_channels: int, channels: int) -> int:
    """How many of x's last channels are no part of the image that y_hat is compared with.

    All beyond the channels of y_hat, such as a map of holes, but for a colour image of which y_hat is grey.
    """
    is_colour_to_grey = (x_channels, channels) == (RGB, 1)
    return 0 if is_colour_to_grey else max(0, x_channels - channels)


def extra_text(x_channels: int, channels: int) -> str | None:
    """What to say of channels of x that are no part of the image; None where there are none."""
    if extra_channels(x_channels, channels) == 0:
        return None
    return (
        f"x has {x_channels} channels and y_hat {channels}: the first of x are compared with y_hat, and what "
        "the others tell (holes, noise, an uncertainty) the packaged score knows only once it is trained "
        "(conformask train)"
    )
