"""Which part of a split an image belongs to: by hash, so that it never depends on the other images."""

import hashlib
from collections.abc import Collection
from typing import Literal, get_args

from conformask.errors import InvalidArgumentError
from conformask.names import Split

PARTS = ("train", "selection", "calibration", "test")
FRACTIONS = (0.55, 0.10, 0.20, 0.15)
"""Of the parts, in their order."""
How = Literal[Split, "paper"]


def uniform(*keys: object) -> float:
    """A number in [0, 1) drawn by hash of the keys, the same on every machine."""
    text = "\0".join(map(str, keys))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def part_of(group: str, seed: int = 0) -> str:
    """The part of a whole group: train, selection, calibration or test at .55/.10/.20/.15."""
    return _deal(uniform(seed, group), PARTS, FRACTIONS)


def set_aside(groups: Collection[str], fraction: float, seed: int) -> set[str]:
    """This fraction of two or more groups; at least one, and not all."""
    drawn = sorted(groups, key=lambda group: uniform(seed, "holdout", group))
    return set(drawn[: min(max(1, round(fraction * len(drawn))), len(drawn) - 1)])


def part_of_tile(file: str, tile: str, how: str = "file", seed: int = 0) -> str:
    """The part of a tile of a file.

    `file` keeps whole files together; `within` does so for train and selection and assigns the tiles of all
    other files to calibration and test; `tile` assigns all four by tile; `paper` does so too, and does not
    mind that tiles overlap.

    Raises:
        InvalidArgumentError: another `how`.
    """
    check_how(how)
    if how in ("tile", "paper"):
        return part_of(tile, seed)
    part = part_of(file, seed)
    if how == "file" or part in PARTS[:2]:
        return part
    share = FRACTIONS[2] + FRACTIONS[3]
    return _deal(uniform(seed, "within", tile) * share, PARTS[2:], FRACTIONS[2:])


def check_how(how: str) -> None:
    """Refuse an unknown way of splitting."""
    if how not in get_args(How):
        raise InvalidArgumentError(f"split {how!r} is unknown; choose from {list(get_args(How))}")


def check_part(name: str) -> None:
    """Refuse a name that is not one of PARTS."""
    if name not in PARTS:
        raise InvalidArgumentError(f"part {name!r} is unknown; choose from {list(PARTS)}")


def _deal(draw: float, parts: tuple[str, ...], fractions: tuple[float, ...]) -> str:
    for part, fraction in zip(parts[:-1], fractions[:-1], strict=True):
        if draw < fraction:
            return part
        draw -= fraction
    return parts[-1]
