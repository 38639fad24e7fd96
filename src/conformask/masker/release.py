"""Release: which new images to use under their masks, each batch judged once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from conformask.arrays import Array, Batch
from conformask.background import DEFAULT_DEVICES, tracked
from conformask.errors import CalibrationError, InvalidArgumentError, MismatchError, expect
from conformask.images.read import hash_unless_constant, is_constant
from conformask.images.triplets import Triplets
from conformask.masker.admission import Admission, appearance, outliers
from conformask.masker.data_leakage import refuse_used
from conformask.masker.guards import has_theorem
from conformask.masker.masker import Masker
from conformask.masks.critical import features_of
from conformask.promises.axes import Group, LogLinear, Simultaneous, fit_log_quantile
from conformask.promises.data import Curves
from conformask.promises.order import ROUNDING, between_grid_points, smallest_marginal_set
from conformask.promises.rules import covariates_of
from conformask.promises.selection import benjamini_hochberg, p_values
from conformask.records.files import exclusive_folder
from conformask.records.geometry import among, size_text
from conformask.records.numbers import plural
from conformask.records.reading import Caveat
from conformask.records.record import from_dict, hash_of, hash_of_arrays, read_json, write_json
from conformask.records.release import JudgedBatch, JudgedBatches, JudgedImage, Release, ReleasePower
from conformask.records.sentence import rounded_share
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


SHARES = (0.01, 0.02, 0.05, 0.1)
"""Shares at which the power is measured where the truth is known."""
MANY = 0.5
"""Share of the calibration images that hide less, from which the hidden share of an image is a reason."""
PerImage = Float[np.ndarray, "n"]
PerUnit = Float[np.ndarray, "m"]
Flags = Bool[np.ndarray, "_"]


def release(
    masker: Masker,
    images: Triplets,
    share: float = 0.02,
    *,
    each: bool = False,
    allow_network_mismatch: bool = False,
) -> Release:
    """Choose new images to release under their masks, such that at most a share of them misses the threshold.

    Conformal selection over the batch: E[released that miss / released] <= share, over calibration images and
    batch, if all are exchangeable; the proof is in `conformal.selection`. If the promise is about groups, a
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
        allow_network_mismatch: judge outputs of another network than the calibration's.

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
    batch, caveat = _checked(masker, images, share, each=each, allow_network_mismatch=allow_network_mismatch)
    return _released(masker, images, batch, caveat)


def release_once(
    run: Path,
    masker: Masker,
    images: Triplets,
    share: float,
    *,
    each: bool = False,
    allow_network_mismatch: bool = False,
) -> Release:
    """Release images as `release` does, and record it in the run folder; see `remember`."""
    batch, caveat = _checked(masker, images, share, each=each, allow_network_mismatch=allow_network_mismatch)
    refuse_judged(run, batch)
    released = _released(masker, images, batch, caveat)
    remember(run, released)
    return released


def _checked(
    masker: Masker, images: Triplets, share: float, *, each: bool, allow_network_mismatch: bool
) -> tuple[JudgedBatch, Caveat | None]:
    """Refuse what cannot be promised, before anything is scored; return the batch that is judged."""
    expect(masker, Masker, "masker", "what calibrate() or load() returned")
    admission = masker.admit(images, allow_network_mismatch=allow_network_mismatch).warn()
    _check(masker, share)
    if not each and _are_dependent(masker, images):
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
    Admission.of_clipped(images.names, measured["clipped"], masker.card.clipped).warn()
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


@dataclass(frozen=True)
class Candidates:
    """New units, images or groups, that may be released."""

    p_values: PerUnit
    """P-values of "this unit misses the threshold"; 1 for units that are held back untested."""
    risks: PerUnit
    failed: Flags | None
    """Units that miss the threshold; None without the truth."""
    unit_of: Int[np.ndarray, "n"]
    """The unit of each image."""
    unlike: Sequence[str]
    """Why each image is unlike those of the calibration; "" where it is not."""
    image_risks: PerImage
    risk: PerImage
    """Shares of the calibration images with less than the risk of each image."""
    more_hidden: PerImage
    """Shares of the calibration images of which less is hidden."""

    def released(self, share: float, *, each: bool = False) -> Flags:
        """Return which units are released."""
        is_small = self.p_values <= share + ROUNDING
        return is_small if each else benjamini_hochberg(self.p_values, share)

    def power(self, shares: Sequence[float] = SHARES, *, each: bool = False) -> tuple[ReleasePower, ...]:
        """Return what each share releases; empty without the truth."""
        return (
            ()
            if self.failed is None
            else tuple(_power(share, self.released(share, each=each), self.failed) for share in shares)
        )


def candidates(masker: Masker, groups: Sequence[str], measured: Mapping[str, Array]) -> Candidates:
    """Return the units of new images of these groups, and their p-values.

    `measured` are `facts_for_release`, the hidden share of each image, and "within", the images that meet the
    threshold, where it is known.
    """
    h, unit, evidence = _risk(masker), masker.card.promise.axes.unit, masker.evidence()
    lam = masker.rule(covariates_of(evidence.curves))[0]
    place = np.searchsorted(evidence.curves.grid, lam, side="right") - 1
    # rounded: last bits of a product depend on the number of rows, and ties must stay ties
    past, risks = (h(each).round(9) for each in (evidence.column("features"), measured["features"]))
    of_units, of_past, critical = risks, past, evidence.critical_lambdas
    unit_of, unit_of_past = np.arange(len(risks)), np.arange(len(past))
    failed = ~measured["within"] if "within" in measured else None
    if isinstance(unit, Group):
        labels, past_labels = np.array(groups), evidence.column("group")
        unit_of, unit_of_past = (np.unique(each, return_inverse=True)[1] for each in (labels, past_labels))
        failed = None if failed is None else unit.losses(failed.astype(np.float64), labels) > 0
        critical = unit.reduce(evidence).critical_lambdas
        of_units, of_past = unit.losses(risks, labels), unit.losses(past, past_labels)
    has_failed = critical < lam
    passing = evidence.curves.take(np.flatnonzero(~has_failed[unit_of_past]))
    unlike, p = _unlike(passing, measured), p_values(has_failed, of_past, of_units)
    p[unit_of[np.array(unlike) != ""]] = 1
    return Candidates(
        p,
        of_units,
        failed,
        unit_of,
        unlike,
        risks,
        _share_below(past, risks),
        _share_below(evidence.curves.hidden_shares[:, place], measured["hidden"]),
    )


def _unlike(passing: Curves, measured: Mapping[str, Array]) -> list[str]:
    """Return why each new image is unlike those of the calibration; "" where it is not.

    Only calibration units that meet the threshold are compared with, and sizes only without a margin: the
    proof in `conformal.selection` needs it.
    """
    far = outliers(passing, measured["appearance"], measured["features"])
    looks = (text and f"unlike the calibration images that meet the threshold: {text}" for text in far)
    return [size or text for size, text in zip(measured["unknown_size"].tolist(), looks, strict=True)]


def _share_below(past: PerImage, new: PerUnit) -> PerUnit:
    return np.searchsorted(np.sort(past), new, side="left") / len(past)


def _risk(masker: Masker) -> LogLinear:
    """Return minus a low quantile of the log critical lambda given the features, else the log mean score.

    It is a function of selection images, threshold and confidence: no calibration image has a say.
    """
    selection, confidence = masker.scorer.selection, masker.card.promise.confidence
    if selection is not None and selection.of.is_same(masker.loss) and confidence is not None:
        curves = selection.curves.get(masker.family.name)
        if curves is not None and curves.features is not None:
            critical = between_grid_points(curves.grid, curves.loss, masker.card.threshold)
            critical = critical.clip(curves.grid[1], curves.grid[-2])
            h = fit_log_quantile(curves.features, critical, 1 - confidence)
            if any(h.coefficients):
                return LogLinear(-h.intercept, tuple(-each for each in h.coefficients))
    n_features = masker.evidence().column("features").shape[1]
    return LogLinear(0.0, (1.0, *[0.0] * (n_features - 1)))


def can_release(masker: Masker) -> bool:
    """Return whether a release is known to keep its share: lambda is one order statistic of stored curves."""
    promise = masker.card.promise
    if masker.curves is None or masker.curves.features is None:
        return False
    is_table = isinstance(promise.axes.certainty, Simultaneous)
    return not is_table and promise.rank(masker.card.n_units) is not None


def _are_dependent(masker: Masker, images: Triplets) -> bool:
    return not masker.card.promise.by_group and len(set(images.groups)) < len(images)


def usual_share(masker: Masker, images: Triplets) -> float | None:
    """Return 2 %, or the smallest of SHARES that the calibration set allows; None if a release is refused."""
    n = masker.card.n_units
    allowed = [share for share in (0.02, *SHARES) if n >= smallest_marginal_set(1 - share)]
    return allowed[0] if allowed and can_release(masker) and not _are_dependent(masker, images) else None


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


def facts_for_release(masker: Masker, item: Batch) -> dict[str, Array]:
    """Return what is known of new images without masks: features of scores, appearance, unknown sizes."""
    card, size = masker.card, tuple(item.y_hat.shape[2:])
    is_known = among(size, card.sizes, many=card.tiles is not None, factor=1)
    text = "" if is_known else f"its size, {size_text(size)}, is not among those of the calibration images"
    return {
        "features": features_of(item.score),
        "appearance": appearance(item),
        "unknown_size": np.full(len(item), text),
        "clipped": np.array(item.clipped),
    }


def _measures(masker: Masker, measurable: bool, item: Batch) -> dict[str, Array]:
    judged_batch = masker.judge(item, measured=measurable)
    measures = facts_for_release(masker, item) | {"hidden": judged_batch.size}
    return measures if judged_batch.within is None else measures | {"within": judged_batch.within}


def judged(
    masker: Masker,
    names: Sequence[str],
    measured: Mapping[str, Array],
    new: Candidates,
    released: Flags,
) -> tuple[JudgedImage, ...]:
    """Return all images, in their order, where `candidates` returned `new` for what was measured."""
    group, judged_images = masker.card.promise.group_name, []
    unlike_units = {int(unit) for unit, text in zip(new.unit_of, new.unlike, strict=True) if text}
    for place, (unit, unlike) in enumerate(zip(new.unit_of.tolist(), new.unlike, strict=True)):
        hidden, by_others = measured["hidden"][place], new.image_risks[place] < new.risks[unit]
        others = by_others or (unit in unlike_units and not unlike)
        reasons = [*filter(None, [unlike]), *([f"other images of its {group}"] if others else [])]
        reasons += _comparisons(new.risk[place], hidden, new.more_hidden[place])
        judged_images.append(
            JudgedImage(
                name=names[place],
                released=bool(released[unit]),
                p_value=float(new.p_values[unit]),
                risk=float(new.risk[place]),
                hidden=float(hidden),
                reasons=() if released[unit] else tuple(reasons),
                within=bool(measured["within"][place]) if "within" in measured else None,
            )
        )
    return tuple(judged_images)


def _comparisons(risk: float, hidden: float, more_hidden: float) -> list[str]:
    """Return how an image compares with the calibration images, the most unusual first."""
    risky = f"riskier than {rounded_share(risk)} of calibration images"
    masked = (
        f"{rounded_share(hidden)} hidden, more than in {rounded_share(more_hidden)} of calibration images"
    )
    unusual = [(risk, risky), *([(more_hidden, masked)] if more_hidden > MANY else [])]
    return [text for _, text in sorted(unusual, reverse=True)]


def _power(share: float, released: Flags, failed: Flags) -> ReleasePower:
    good = released[~failed]
    of_good = float(good.mean()) if len(good) else math.nan
    return ReleasePower(share, int(released.sum()), int((released & failed).sum()), of_good)
