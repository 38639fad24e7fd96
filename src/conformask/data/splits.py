"""Splits: the part of each image, by a hash that never depends on the other images, or by counts."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import Literal, get_args

from conformask.conformal.presets import guarantee as guarantee_by_name
from conformask.errors import InvalidArgumentError
from conformask.names import Guarantee, Split
from conformask.storage.hashes import hash_of_text

PARTS = ("train", "selection", "calibration", "test")
FRACTIONS = (0.55, 0.10, 0.20, 0.15)
"""Fractions of the parts, in their order."""
SplitUnit = Literal[Split, "paper"]


def uniform(*keys: object) -> float:
    """Return a number in [0, 1) drawn by hash of the keys, the same on every machine."""
    text = "\0".join(map(str, keys))
    return int(hash_of_text(text)[:16], 16) / 2**64


def part_of(group: str, seed: int = 0) -> str:
    """Return the part of a whole group: train, selection, calibration or test at .55/.10/.20/.15."""
    return _part_at(uniform(seed, group), PARTS, FRACTIONS)


def parts_of(
    groups: Sequence[str],
    seed: int,
    fractions: Sequence[float] | None,
    guarantee: Guarantee | None,
    confidence: float | None,
) -> tuple[str, ...]:
    """Return the part of each image, given its group; see `Triplets.split`.

    Raises:
        InvalidArgumentError: fractions that are not four positive numbers which sum to 1, an invalid
            guarantee, or too few groups; the message says how many it takes.
    """
    if fractions is None and guarantee is None:
        return tuple(part_of(group, seed) for group in groups)
    promise = guarantee_by_name(guarantee or "marginal", confidence)
    calibration = 1 if guarantee is None else promise.smallest_calibration_set(None, None)
    part_of_group = _assigned(groups, fractions or FRACTIONS, seed, calibration, promise.by_group)
    return tuple(part_of_group[group] for group in groups)


def _assigned(
    groups: Sequence[str], fractions: Sequence[float], seed: int, calibration: int, by_group: bool
) -> dict[str, str]:
    """Assign groups to parts in the order of a hash, in numbers as near the fractions as possible.

    The calibration part comes first, with at least this many groups if `by_group`, else images.
    """
    if len(fractions) != len(PARTS) or min(fractions) <= 0 or not math.isclose(sum(fractions), 1):
        raise InvalidArgumentError(
            f"fractions {fractions}: give positive fractions for {', '.join(PARTS)} that sum to 1"
        )
    images = Counter(groups)
    in_order = sorted(images, key=lambda group: uniform(seed, "fractions", group))
    totals = accumulate(1 if by_group else images[group] for group in in_order)
    fewest = next((count for count, total in enumerate(totals, 1) if total >= calibration), len(images) + 1)
    in_calibration = max(fewest, round(fractions[2] * len(images)))
    others = len(images) - in_calibration
    if others < len(PARTS) - 1:
        units_text = "groups" if by_group else "images"
        raise InvalidArgumentError(
            f"{len(groups)} images in {len(images)} groups are too few for four parts with at least "
            f"{calibration} {units_text} for calibration: add images, or ask for less confidence"
        )
    shares = [fraction for part, fraction in zip(PARTS, fractions, strict=True) if part != "calibration"]
    ends = [round(others * share / sum(shares)) for share in accumulate(shares)]
    # every part has at least one group
    train_end = min(max(1, ends[0]), others - 2)
    selection_end = min(max(train_end + 1, ends[1]), others - 1)
    parts = ["calibration"] * in_calibration + ["train"] * train_end
    parts += ["selection"] * (selection_end - train_end) + ["test"] * (others - selection_end)
    return dict(zip(in_order, parts, strict=True))


def set_aside(groups: Collection[str], fraction: float, seed: int) -> set[str]:
    """Return about this fraction of two or more groups, drawn by hash; at least one, and not all."""
    in_order = sorted(groups, key=lambda group: uniform(seed, "holdout", group))
    return set(in_order[: n_set_aside(len(groups), fraction)])


def n_set_aside(groups: int, fraction: float) -> int:
    """Return how many of this many groups are set aside."""
    return min(max(1, round(fraction * groups)), groups - 1)


def part_of_tile(file: str, tile: str, split: str = "file", seed: int = 0) -> str:
    """Return the part of a tile of a file.

    `file` keeps whole files together; `within` does so for train and selection and assigns the tiles of all
    other files to calibration and test; `tile` assigns all four by tile; `paper` does so too, and allows
    tiles to overlap.

    Raises:
        InvalidArgumentError: another `split`.
    """
    check_split(split)
    if split in ("tile", "paper"):
        return part_of(tile, seed)
    part = part_of(file, seed)
    if split == "file" or part in PARTS[:2]:
        return part
    share = FRACTIONS[2] + FRACTIONS[3]
    return _part_at(uniform(seed, "within", tile) * share, PARTS[2:], FRACTIONS[2:])


def check_split(split: str) -> None:
    """Raise for an unknown way of splitting."""
    if split not in get_args(SplitUnit):
        raise InvalidArgumentError(f"split {split!r} is unknown; choose from {list(get_args(SplitUnit))}")


def check_part(name: str) -> None:
    """Raise for a name that is not one of PARTS."""
    if name not in PARTS:
        raise InvalidArgumentError(f"part {name!r} is unknown; choose from {list(PARTS)}")


def _part_at(number: float, parts: tuple[str, ...], fractions: tuple[float, ...]) -> str:
    """Return the part in which a number lies, with parts as wide as their fractions, from 0 on."""
    for part, fraction in zip(parts[:-1], fractions[:-1], strict=True):
        if number < fraction:
            return part
        number -= fraction
    return parts[-1]
