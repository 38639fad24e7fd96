"""Detection of calibration or test images that were used in training, or that occur twice."""

from collections.abc import Iterable
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from conformask.arrays import Array, Batch
from conformask.errors import CalibrationError, warn
from conformask.images.read import Image, hash_unless_constant
from conformask.images.scan import REDUCED, DatasetSummary, find_copies
from conformask.images.triplets import Triplets
from conformask.scores.scorer import Scorer

if TYPE_CHECKING:
    from conformask.masker.masker import Masker


def used_images(seen: frozenset[str], images: Triplets, ids: Iterable[str | None]) -> Bool[np.ndarray, "n"]:
    """Return which images an earlier step has `seen`, such as `Masker.seen`, or the predictor's training.

    They are recognised by `ids`, hashes of their pixels (see `truth_ids`), or by a group where one is stated.
    """
    seen, pairs = seen.union(images.provenance.trained_on), zip(ids, images.group_ids, strict=True)
    return np.array([not seen.isdisjoint(each) for each in pairs], dtype=bool)


def truth_ids(batch: Batch) -> Array:
    """Return the hash by which each image is recognised; "" where the truth is not known."""
    return np.full(len(batch), "") if batch.y is None else image_ids(batch.y.cpu().numpy())


def image_ids(images: Iterable[Image]) -> Array:
    """Return the hash of each image; "" for constant ones, which are all alike."""
    return np.array([hash_unless_constant(image) or "" for image in images], dtype=np.str_)


def refuse_known(known: frozenset[str], images: Triplets, ids: Iterable[str | None]) -> None:
    """Refuse calibration images, recognised as by `used_images`, that were used for training or selection."""
    leaked = list(compress(images.names, used_images(known, images, ids)))
    if leaked:
        raise CalibrationError(
            f"{len(leaked)} of {len(images)} calibration images were used to train or select the scorer or "
            "the predictor; the promise needs images that neither has seen. One of them, recognised by its "
            f"pixels or its group, is {leaked[0]!r}"
        )


def refuse_used(
    masker: "Masker", images: Triplets, ids: Iterable[str | None], kind: str, purpose: str
) -> None:
    """Refuse `used_images`: they are not like new ones."""
    used = list(compress(images.names, used_images(masker.seen, images, ids)))
    if used:
        raise CalibrationError(
            f"{len(used)} of {len(images)} {kind} images were used for training, selection or calibration: "
            f"{purpose} needs images that no step has seen. One of them, recognised by its pixels or its "
            f"group, is {used[0]!r}"
        )


def refuse_duplicates(seen: DatasetSummary, groups: tuple[str, ...]) -> None:
    """Refuse calibration images with the same truth in two groups, which are not two draws."""
    first: dict[str | None, int] = {None: 0}
    for index, pixels in enumerate(seen.pixels):
        twin = first.setdefault(pixels, index)
        if pixels is not None and groups[twin] != groups[index]:
            raise CalibrationError(
                f"calibration images {seen.names[twin]!r} and {seen.names[index]!r} have the same truth: "
                "keep one of them, or put them in one group"
            )


def warn_of_learnt(seen: DatasetSummary, scorer: Scorer, kind: str) -> None:
    """Warn of images that look like copies of images that the scorer knows."""
    packaged = scorer.name == "packaged"
    reason = "the packaged network was trained on" if packaged else "the scorer was trained or selected on"
    warn_of_copies(seen, scorer.perceptual_hashes, kind, reason)


def warn_of_copies(seen: DatasetSummary, perceptual_hashes: Array | None, kind: str, reason: str) -> None:
    """Warn of images that look like copies of the images with these perceptual hashes."""
    pairs = [] if perceptual_hashes is None else find_copies(seen.perceptual_hashes, perceptual_hashes)
    names = list(dict.fromkeys(seen.names[index] for index, _ in pairs))
    if names:
        warn(
            f"{len(names)} of {len(seen.names)} {kind} images, such as {names[0]!r}, look like copies "
            f"(saved again, rotated, scaled or slightly cropped) of images that {reason}. If they are, "
            "leave them out: masks fit them better than new images"
        )


def warn_of_copies_within(seen: DatasetSummary, groups: tuple[str, ...]) -> None:
    """Warn of calibration images of two groups that look like copies: they are not two draws.

    Images too small for a perceptual hash are left out.
    """
    if min(seen.smallest[-2:]) < REDUCED:
        return
    pairs = [
        (a, b)
        for a, b in find_copies(seen.perceptual_hashes, seen.perceptual_hashes)
        if a < b and groups[a] != groups[b]
    ]
    if pairs:
        (first, second), count = pairs[0], len({place for pair in pairs for place in pair})
        warn(
            f"{count} of {len(seen.names)} calibration images look like copies (saved again, rotated, "
            f"scaled or slightly cropped) of others, such as {seen.names[first]!r} of "
            f"{seen.names[second]!r}. If they are, keep one of each; if they show the same patient or scene "
            "again, such as at another visit, put them in one group: they are not independent"
        )


def warn_of_spellings(categories: Iterable[str]) -> None:
    """Warn of categories that differ only by case or blanks, and were probably meant to be one."""
    by_meaning: dict[str, str] = {}
    for category in sorted(set(categories)):
        other = by_meaning.setdefault("".join(category.split()).casefold(), category)
        if other != category:
            warn(
                f"categories {other!r} and {category!r} differ only in case or spaces: if they are the same "
                "category, spell them alike"
            )
