"""Sizes of images, and which of them are alike."""

from collections.abc import Collection

Size = tuple[int, ...]
"""The spatial sides of an image in pixels, (H, W) or (D, H, W)."""
FACTOR = 2
"""How many times longer or shorter than known sides those of images of many sizes may be."""
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
