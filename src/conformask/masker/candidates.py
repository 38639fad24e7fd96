"""Candidates for a release: new images or groups with their risks and p-values, and reasons to hold back."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from conformask.arrays import Array, Batch
from conformask.images.triplets import Triplets
from conformask.masker.admission import appearance, outliers
from conformask.masker.masker import Masker
from conformask.masks.critical import features_of
from conformask.promises.axes import Group, LogLinear, Simultaneous, fit_log_quantile
from conformask.promises.order import ROUNDING, Curves, between_grid_points, smallest_marginal_set
from conformask.promises.selection import benjamini_hochberg, p_values
from conformask.records.evaluation import JudgedImage, ReleasePower
from conformask.records.loss import is_same
from conformask.records.numbers import rounded_share
from conformask.records.reading import among, size_text

SHARES = (0.01, 0.02, 0.05, 0.1)
"""Shares at which the power is measured where the truth is known."""
MANY = 0.5
"""Share of the calibration images that hide less, from which the hidden share of an image is a reason."""
PerImage = Float[np.ndarray, "n"]
PerUnit = Float[np.ndarray, "m"]
Flags = Bool[np.ndarray, "_"]


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
        if self.failed is None:
            return ()
        return tuple(_power(share, self.released(share, each=each), self.failed) for share in shares)


def candidates(masker: Masker, groups: Sequence[str], measured: Mapping[str, Array]) -> Candidates:
    """Return the units of new images of these groups, and their p-values.

    `measured` are `facts_for_release`, the hidden share of each image, and "within", the images that meet the
    threshold, where it is known.
    """
    h, unit, evidence = _risk(masker), masker.card.promise.axes.unit, masker.evidence()
    lam = masker.rule(evidence.curves.covariates)[0]
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
    proof in `promises.selection` needs it.
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
    if selection is not None and is_same(selection.of, masker.loss) and confidence is not None:
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


def are_dependent(masker: Masker, images: Triplets) -> bool:
    """Return whether images share groups, and the promise counts images."""
    return not masker.card.promise.by_group and len(set(images.groups)) < len(images)


def judged(
    masker: Masker, names: Sequence[str], measured: Mapping[str, Array], new: Candidates, released: Flags
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


def usual_release(
    masker: Masker, images: Triplets, measured: Mapping[str, Array]
) -> tuple[float | None, tuple[ReleasePower, ...], dict[str, str]]:
    """Return a usual share, what a release keeps at several shares, and of each image if it is released.

    The share is 2 %, or the smallest of SHARES that the calibration set allows; None if a release is refused.
    """
    n = masker.card.n_units
    allowed = [share for share in (0.02, *SHARES) if n >= smallest_marginal_set(1 - share)]
    if not allowed or not can_release(masker) or are_dependent(masker, images):
        return None, (), {}
    share, new = allowed[0], candidates(masker, images.groups, measured)
    verdicts = judged(masker, images.names, measured, new, new.released(share))
    return share, new.power(), {image.name: image.verdict for image in verdicts}
