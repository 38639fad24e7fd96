"""What is checked of promises, images and losses wherever a promise is made, changed or measured."""

from collections.abc import Iterable
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from conformask.arrays import Array
from conformask.errors import CalibrationError, InvalidArgumentError, MismatchError, verb, warn
from conformask.images.scan import DatasetSummary, find_copies
from conformask.images.triplets import Triplets
from conformask.losses.base import Loss
from conformask.promises.axes import Columns
from conformask.promises.order import meets_threshold
from conformask.promises.promise import Promise
from conformask.records.reading import Geometry, Reference
from conformask.scores.scorer import Scorer

if TYPE_CHECKING:
    from conformask.masker.masker import Masker


def check_test_images(masker: "Masker", images: Triplets, seen: DatasetSummary) -> None:
    """Check test images once they are read: `seen` of them."""
    refuse_used(masker, images, seen.pixels, "test", "an evaluation")
    if images.provenance.population is None:  # tiles cut by conformask are not copies of each other
        warn_of_learnt(seen, masker.scorer, "test")
        warn_of_copies(seen, masker.perceptual_hashes, "test", "the masker was calibrated on")
    check_spacing(masker.loss, seen.geometry)


def check_spacing(loss: Loss, geometry: Geometry | None) -> None:
    """Refuse a window given as a length if the images' spacing makes another number of pixels of it."""
    window = loss.traits.physical_window
    if window is None:
        return
    sides, length = window.sides, window.length
    if geometry is None or not isinstance(sides, tuple) or not geometry.spans(sides, length):
        spacing = "no spacing" if geometry is None else f"a spacing of {geometry.text}"
        raise MismatchError(
            f"the window of {length} was {sides} pixels, but these images have {spacing}: give "
            "the window again, and train or calibrate with images of this spacing"
        )


def refuse_noisy(promise: Promise, used: Loss, reference: Reference) -> None:
    """Refuse a promise without a theorem for noisy references, in calibration and in tests.

    A loss that is convex in y has a mean over noise of at least its value for the clean image (Jensen), so
    that a promise about means holds for the clean image too. A loss from which noise is subtracted needs two
    repeats or a noise model, and by a model it is never exact.
    """
    if not reference.is_noisy:
        return
    used.traits.truth.check_reference(reference)
    bounds_clean = used.traits.convex and used.traits.power and promise.axes.statement.bounds_a_mean
    if not (used.traits.truth.subtracts_noise or bounds_clean):
        needed = ", for which it takes a second repeat or a noise model (--noise-model)"
        raise InvalidArgumentError(
            f"these images have {reference.text} in the place of a truth, and a promise about "
            f"{used.name} ({promise.guarantee}) needs one: take CleanMean('l2') (--loss l2 --over "
            f"clean) or CleanLocal (clean_local), the squared error without the noise"
            f"{needed if reference == Reference(1) else ''}, or promise a mean of l1 or l2, guarantee "
            "expected or rcps"
        )


def has_theorem(promise: Promise, used: Loss, reference: Reference) -> bool:
    """Return whether images with these references show how a promise is kept; see `refuse_noisy`."""
    try:
        refuse_noisy(promise, used, reference)
    except InvalidArgumentError:
        return False
    return True


GREY = 255
"""The largest grey value of 8 bits."""
PERFECT = 1e-6
"""Losses below this occur only between images that are equal up to the rounding of floats."""
PLURALS = {"group": "groups", "category": "categories", "weight": "weights"}


def check_sample_size(
    promise: Promise, threshold: float, loss: Loss, n: int, columns: Columns, part: str = "calibration"
) -> None:
    """Refuse a promise that n images with these groups, categories and weights cannot support."""
    for need in promise.columns:
        if columns.get(need) is None:
            raise InvalidArgumentError(
                f"the {promise.guarantee} guarantee needs the {need} of each image: add a column {need} to "
                f"the manifest, or {PLURALS[need]}= to the arrays"
            )
    group, weight = columns.get("group"), columns.get("weight")
    groups = n if group is None else len(np.unique(group))
    if groups < n and not promise.by_group:
        raise CalibrationError(
            f"{n} images in {groups} group{'s' * (groups > 1)} are dependent: the {promise.guarantee} "
            "promise needs one image per group; choose the unit group (every image of a new group) or "
            "image_of_new_group, keep one image per group, or make the promise about new tiles of these "
            "files (triplets --stride with --split within)"
        )
    if {"group", "weight"} <= promise.columns and group is not None and weight is not None:
        pairs = len(np.unique(np.column_stack([group, weight.astype(str)]), axis=0))
        if pairs > len(np.unique(group)):
            raise InvalidArgumentError(
                "the images of a group have different weights: give them all the weight of the group"
            )
    count, units = promise.counted(n, columns)
    own = loss.traits.own_bounds and promise.own_bounds
    needed = promise.smallest_calibration_set(threshold, None if own else loss.traits.upper_bound)
    if count < needed:
        confidence = promise.confidence
        level = f"threshold {threshold:.4g}" if confidence is None else f"confidence {confidence:g}"
        unit = promise.axes.unit
        counted = units.replace(unit.plural, unit.singular) if count == 1 else units
        raise CalibrationError(
            f"{count} {counted} {verb(count, 'is')} too few for {level} ({promise.guarantee}): it needs at "
            f"least {needed} {part} {units}; add some or ask for less"
        )


def refuse_unbounded(promise: Promise, used: Loss) -> None:
    """Refuse a promise about the mean of a loss without an upper bound."""
    if promise.axes.statement.bounds_a_mean and used.traits.upper_bound is None:
        raise InvalidArgumentError(
            f"the {promise.guarantee} guarantee bounds a mean and needs a loss with an upper bound, but "
            f"{used.name!r} declares none: choose a guarantee about a share of images, such as "
            "marginal"
        )


def closed_masks_pass(losses: Float[np.ndarray, "n"], threshold: float, loss: str) -> None:
    """Refuse a loss that exceeds the threshold even where everything is masked.

    Every promise relies on closed masks as a fallback.
    """
    if not meets_threshold(losses, threshold).all():
        raise CalibrationError(
            f"loss {loss!r} is {losses.max():.4g} for fully masked images, above the "
            f"threshold {threshold:.4g}: no mask could meet it; use one that is 0 where all is "
            "hidden, or raise the threshold"
        )


def check_threshold(threshold: float, loss: Loss, span: float = 1) -> None:
    """Refuse a threshold that no loss reaches; warn of one that none exceeds, or only perfect images meet.

    `span` is the range of y_hat in the values of its files.
    """
    name, largest = loss.name, loss.traits.upper_bound
    if largest is not None and threshold > largest:
        span = GREY if span == 1 else span
        instead = "" if loss.words.error_of_share(1) is None else ": give a share, such as 0.05 or 5%"
        if loss.traits.power is not None and not loss.traits.is_share and threshold <= span:
            instead += f"; {threshold:g} of {span:g} is {(threshold / span) ** loss.traits.power:.3g}"
        raise InvalidArgumentError(
            f"threshold {threshold:g}: {name} of images in [0, 1] is at most {largest:g}, so nothing would "
            f"be hidden{instead}"
        )
    if threshold == largest:
        warn(f"threshold {threshold:g}: {name} of images in [0, 1] never exceeds it, so nothing is hidden")
    elif threshold < PERFECT:
        warn(
            f"threshold {threshold:g}: {name} of images in [0, 1] is less than {PERFECT:g} only where "
            "pixels are equal to the last digit of a float, so nearly everything else is hidden"
        )


def refuse_known(known: frozenset[str], images: Triplets, ids: Iterable[str | None]) -> None:
    """Refuse calibration images, recognised as by `Triplets.used`, that were used to train or select."""
    leaked = list(compress(images.names, images.used(known, ids)))
    if leaked:
        raise CalibrationError(
            f"{len(leaked)} of {len(images)} calibration images {verb(len(leaked), 'was')} used to train "
            "or select the scorer or the predictor; the promise needs images that neither has seen. One of "
            f"them, recognised by its pixels or its group, is {leaked[0]!r}"
        )


def refuse_used(
    masker: "Masker", images: Triplets, ids: Iterable[str | None], kind: str, purpose: str
) -> None:
    """Refuse images that `Triplets.used` finds: they are not like new ones."""
    used = list(compress(images.names, images.used(masker.seen, ids)))
    if used:
        raise CalibrationError(
            f"{len(used)} of {len(images)} {kind} images {verb(len(used), 'was')} used for training, "
            f"selection or calibration: {purpose} needs images that no step has seen. One of them, "
            f"recognised by its pixels or its group, is {used[0]!r}"
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
            f"{len(names)} of {len(seen.names)} {kind} images, such as {names[0]!r}, "
            f"{verb(len(names), 'looks like a copy')} (saved again, rotated, scaled or slightly cropped) of "
            f"images that {reason}. If they are, leave them out: masks fit them better than new images"
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
