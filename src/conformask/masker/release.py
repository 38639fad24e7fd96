"""Release: which new images to use under their masks, each batch judged once."""

from functools import partial
from pathlib import Path

from conformask.arrays import Array, Batch
from conformask.background import DEFAULT_DEVICES, tracked
from conformask.errors import CalibrationError, InvalidArgumentError, MismatchError, expect
from conformask.images.read import hash_unless_constant, is_constant
from conformask.images.triplets import Triplets
from conformask.masker.candidates import (
    SHARES,
    are_dependent,
    can_release,
    candidates,
    facts_for_release,
    judged,
)
from conformask.masker.checks import has_theorem, refuse_used
from conformask.masker.masker import Masker
from conformask.promises.order import smallest_marginal_set
from conformask.records.evaluation import JudgedBatch, JudgedBatches, Release
from conformask.records.numbers import plural, rounded_share
from conformask.records.reading import Caveat
from conformask.records.record import (
    exclusive_folder,
    from_dict,
    hash_of,
    hash_of_arrays,
    read_json,
    write_json,
)
from conformask.records.words import release_promise
from conformask.scores.scoring import gathered

RECORD = "released.json"
"""The file of a run folder that lists the batches."""


def identified(masker: Masker, images: Triplets) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read new images; return the `pixels` and the `units` of their batch."""
    ids, batch = [], []
    names = images.groups if masker.card.promise.by_group else images.names
    of_units: dict[str, list[str]] = {name: [] for name in names}
    for name, triplet in zip(
        names, tracked(images.checked(), "reading new images", len(images)), strict=True
    ):
        ids.append(hash_unless_constant(triplet.y_hat if triplet.y is None else triplet.y))
        # by its pixels an image is recognised, "" if all is constant; by its contents it is judged
        known = {"x": triplet.x, "y_hat": triplet.y_hat, **triplet.layers}
        contents = hash_of_arrays(known)
        is_blank = all(is_constant(image) for role, image in known.items() if role != "region")
        of_units[name].append(contents)
        batch.append((hash_unless_constant(triplet.y_hat) or ("" if is_blank else contents), name))
    refuse_used(masker, images, ids, "new", "a release")
    hashes = sorted((pixels, hash_of(sorted(of_units[name]))) for pixels, name in batch)
    return tuple(pixels for pixels, _ in hashes), tuple(unit for _, unit in hashes)


def remember(run: Path, released: Release) -> None:
    """Record in a run folder what was judged; refuse images that were judged before in another way.

    A share that is chosen, or a batch that is cut, after p-values were seen promises nothing. The same
    release may be repeated.
    """
    with exclusive_folder(run, RECORD):
        batches = refuse_judged(run, released.batch)
        if released.batch not in batches:
            write_json(run / RECORD, {"batches": [*batches, released.batch]})


def refuse_judged(run: Path, batch: JudgedBatch) -> tuple[JudgedBatch, ...]:
    """Return the batches that a run folder records; raise if images of this one were in another."""
    path = run / RECORD
    try:
        judged = from_dict(JudgedBatches, read_json(path), path).batches if path.is_file() else ()
    except MismatchError as error:
        raise MismatchError(
            f"{error}. If that is impossible, move it away and release only images that were never judged"
        ) from error
    for earlier in judged:
        if common := batch.judged_in(earlier):
            raise MismatchError(
                f"{common} of these {plural(len(batch.pixels), 'image')} were judged before, in a batch of "
                f"{len(earlier.pixels)} with share {earlier.share:g} ({path}): nothing is promised where "
                "share, masker, maps, groups or batch are chosen after looking. Repeat that release as it "
                "was, or give images that were not judged yet"
            )
    return judged


def release(
    masker: Masker,
    images: Triplets,
    share: float = 0.02,
    *,
    each: bool = False,
) -> Release:
    """Choose new images to release under their masks, such that at most a share of them misses the threshold.

    Conformal selection over the batch: E[released that miss / released] <= share, over calibration images and
    batch, if all are exchangeable; the proof is in `promises.selection`. If the promise is about groups, a
    group is released as one, and misses the threshold where the promise says that it does.

    Images are ordered by risk, which is fixed before a calibration image is looked at: a quantile regression
    of log critical lambdas on features of the score, fitted on the selection images, or the mean score where
    these are too few. Images far outside of the calibration images that meet the threshold, or of another
    size than all of the calibration's, are held back untested, and count in the batch with p-value 1.

    Args:
        masker: a calibrated masker with one lambda: guarantee marginal or pac, for images or groups.
        images: new images (x, y_hat), one batch; where y is known, the power is measured.
        share: the largest share of the released images that may miss the threshold, in expectation.
        each: judge each image by itself, as in a stream: at most this share of all new images is released
            and misses the threshold, in expectation, however many come and whichever depend on each other.

    Raises:
        InvalidArgumentError: a share outside (0, 1), a promise for which no theorem is known, or a batch of
            dependent images.
        CalibrationError: too few calibration images for the share, says how many it needs; or images that
            were used for training, selection or calibration.
        MismatchError: no curves are stored; images of other channels or of another network.
        ImageError: an image that cannot be used.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((60, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> y = np.random.default_rng(1).random((20, 16, 16), dtype=np.float32)
        >>> cm.release(masker, cm.Triplets.from_arrays(y**2, y**1.5, y), share=0.1).n_released
        20
    """
    batch, caveat = _checked(masker, images, share, each=each)
    return _released(masker, images, batch, caveat)


def release_once(
    run: Path,
    masker: Masker,
    images: Triplets,
    share: float,
    *,
    each: bool = False,
) -> Release:
    """Release images as `release` does, and record it in the run folder; see `remember`."""
    batch, caveat = _checked(masker, images, share, each=each)
    refuse_judged(run, batch)
    released = _released(masker, images, batch, caveat)
    remember(run, released)
    return released


def _checked(
    masker: Masker, images: Triplets, share: float, *, each: bool
) -> tuple[JudgedBatch, Caveat | None]:
    """Refuse what cannot be promised, before anything is scored; return the batch that is judged."""
    expect(masker, Masker, "masker", "what calibrate() or load() returned")
    admission = masker.admit(images).warn()
    _check(masker, share)
    if not each and are_dependent(masker, images):
        raise InvalidArgumentError(
            f"{len(images)} new images in {len(set(images.groups))} groups depend on each other: calibrate "
            "with the unit group, so that groups are released as one, or judge each image by itself, --each "
            "(each=True)"
        )
    return JudgedBatch(share, each, masker.fingerprint, *identified(masker, images)), admission.caveat


def _released(masker: Masker, images: Triplets, batch: JudgedBatch, caveat: Caveat | None) -> Release:
    """Score the images and judge them."""
    share, each = batch.share, batch.each
    measurable = images.has_truth and has_theorem(masker.card.promise, masker.loss, images.reference)
    measure = partial(_measures, masker, measurable)
    measured = gathered(masker.scorer, images, measure, "release", masker.fingerprint, DEFAULT_DEVICES)
    masker.warn_of_clipped(images.names, measured["clipped"])
    new = candidates(masker, images.groups, measured)
    sentence, formula = release_promise(masker.card, share, caveat, each=each)
    return Release(
        sentence=sentence,
        formula=formula,
        images=judged(masker, images.names, measured, new, new.released(share, each=each)),
        unit=masker.card.promise.named(masker.card.promise.axes.unit.singular),
        n_units=len(new.p_values),
        n_calibration=masker.card.n_units,
        power=new.power(sorted({share, *SHARES}), each=each),
        batch=batch,
    )


def _check(masker: Masker, share: float) -> None:
    """Refuse what cannot be promised."""
    if not 0 < share < 1:
        raise InvalidArgumentError(f"share: {share}; give a number between 0 and 1, such as 0.02")
    masker.evidence().column("features")
    if not can_release(masker):
        raise InvalidArgumentError(
            f"no theorem is known for a release under the promise {masker.sentence}: calibrate with "
            "guarantee marginal or pac, for images or groups"
        )
    n, needed = masker.card.n_units, smallest_marginal_set(1 - share)
    if n < needed:
        units = masker.card.promise.named(masker.card.promise.plural)
        raise CalibrationError(
            f"{n} calibration {units} cannot reach {rounded_share(share)}: no p-value is below 1 / {n + 1}, "
            f"so that nothing could be released. It needs at least {needed}; calibrate with more, or allow a "
            "larger share"
        )


def _measures(masker: Masker, measurable: bool, item: Batch) -> dict[str, Array]:
    judged_batch = masker.judge(item, measured=measurable)
    measures = facts_for_release(masker, item) | {"hidden": judged_batch.size}
    return measures if judged_batch.within is None else measures | {"within": judged_batch.within}
