"""Requirements of a promise: enough images, suitable columns, a loss that closed masks satisfy."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy
from jaxtyping import Float

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.certainty import Simultaneous
from conformask.conformal.crossing import meets_threshold
from conformask.conformal.curves import Curves
from conformask.conformal.guarantee import Guarantee
from conformask.conformal.populations import SamePopulation, Weighted
from conformask.conformal.rules import CategoryLambda, Rule, covariates_of
from conformask.conformal.units import Columns, Group
from conformask.errors import CalibrationError, ConformaskWarning, InvalidArgumentError
from conformask.losses.clean import LIT, UNKNOWN
from conformask.records.card import EVERY_CALIBRATION_IMAGE, EVERY_IMAGE
from conformask.storage.as_arrays import Array
from conformask.types import Loss

CLOSED = 0.9
"""Mean mask size above which masks are hardly useful."""
NEAR = 0.05
"""Chance above which a warning says that another calibration set might hide everything."""
GREY = 255
"""The largest grey value of 8 bits."""
PERFECT = 1e-6
"""Losses below this occur only between images that are equal up to the rounding of floats."""
PLURALS = {"group": "groups", "category": "categories", "weight": "weights"}


def check_sample_size(
    promise: Guarantee,
    threshold: float,
    loss: Loss,
    n: int,
    columns: Columns,
    part: str = "calibration",
) -> None:
    """Refuse a promise that n images with these groups, categories and weights cannot support.

    Raises:
        InvalidArgumentError: a column that the guarantee reads is missing.
        CalibrationError: dependent or too few images; says how many it needs.
    """
    for need in promise.columns:
        if columns.get(need) is None:
            raise InvalidArgumentError(
                f"the {promise.name} guarantee needs the {need} of each image: add a column {need} to the "
                f"manifest, or {PLURALS[need]}= to the arrays"
            )
    _independent(promise, n, columns.get("group"))
    if {"group", "weight"} <= promise.columns:
        _alike(columns["weight"], columns["group"])
    count, unit = promise.counted(n, columns)
    own = loss.own_bounds and promise.own_bounds
    needed = promise.smallest_calibration_set(threshold, None if own else loss.upper_bound)
    if count < needed:
        confidence = promise.confidence
        level = f"threshold {threshold:.4g}" if confidence is None else f"confidence {confidence:g}"
        raise CalibrationError(
            f"{count} {unit} are too few for {level} ({promise.name}): it needs at least {needed} "
            f"{part} {unit}; add some or ask for less"
        )


def _alike(weight: Array | None, group: Array | None) -> None:
    if weight is None or group is None:
        return
    pairs = len(np.unique(np.column_stack([group, weight.astype(str)]), axis=0))
    if pairs > len(np.unique(group)):
        raise InvalidArgumentError(
            "the images of a group have different weights: give them all the weight of the group"
        )


def _independent(promise: Guarantee, n: int, group: Array | None) -> None:
    groups = n if group is None else len(np.unique(group))
    if groups < n and not promise.by_group:
        raise CalibrationError(
            f"{n} images in {groups} groups are dependent: the {promise.name} promise needs one image per "
            "group; choose the unit group (every image of a new group) or image_of_new_group, keep one image "
            "per group, or make the promise about new tiles of these files (triplets --stride with --split "
            "within)"
        )


def closed_masks_pass(losses: Float[np.ndarray, "n"], threshold: float, loss: str) -> None:
    """Refuse a loss that exceeds the threshold even where everything is masked.

    Every promise relies on closed masks as a fallback.

    Raises:
        CalibrationError: one of these losses of fully masked images exceeds the threshold.
    """
    if not meets_threshold(losses, threshold).all():
        raise CalibrationError(
            f"loss {loss!r} is {losses.max():.4g} for fully masked images, above the "
            f"threshold {threshold:.4g}: no mask could meet it; use one that is 0 where all is "
            "hidden, or raise the threshold"
        )


def hidden_by(rule: Rule, hidden: float) -> str | None:
    """Describe the images that a rule hides completely; None if there are none.

    `hidden` is the mean mask size of the calibration images; the others it hides whatever they look like.
    """
    if not rule.is_vacuous:
        return EVERY_CALIBRATION_IMAGE if hidden == 1 else None
    lambdas = rule.lambdas if isinstance(rule, CategoryLambda) else {}
    closed = [category for category, lam in lambdas.items() if lam <= 0]
    if len(closed) == len(lambdas):
        return EVERY_IMAGE
    return f"{EVERY_IMAGE} of category {', '.join(closed)}"


def warn_if_hidden(promise: Guarantee, seen: CalibrationData, rule: Rule, hidden: float) -> None:
    """Warn if only closed masks keep the promise, or if that was close.

    Such maskers are issued nevertheless: if promises were given only where masks open, they would rest on
    lucky calibration sets, and be kept less often than they say.
    """
    hides = hidden_by(rule, hidden)
    fail = float((seen.critical_lambdas <= 0).mean())
    of_them = f"{fail:.0%} of the {seen.n} calibration images exceed the threshold under any open mask"
    if hides is not None:
        why = of_them if fail > 0 else "there are too few images, or their errors vary too much"
        warnings.warn(
            f"the promise is kept only by hiding {hides} completely: {why}. A larger threshold or a lower "
            "confidence that is chosen now is exploratory: to rely on it, calibrate with it on images that "
            "no choice has seen",
            category=ConformaskWarning,
            stacklevel=4,
        )
    elif (chance := chance_of_hiding(promise, seen)) > NEAR:
        warnings.warn(
            f"{of_them}: about {chance:.0%} of such calibration sets would keep the promise only by hiding "
            "every image",
            category=ConformaskWarning,
            stacklevel=4,
        )


def chance_of_hiding(promise: Guarantee, seen: CalibrationData) -> float:
    """Return the share of calibration sets like this one for which everything is hidden.

    It is P(Bin(n, share at 0) >= rank); 0 where no single rank decides.
    """
    units = promise.unit.reduce(seen) if isinstance(promise.unit, Group) else seen
    rank = promise.rank(units.n) if isinstance(promise.population, SamePopulation) else None
    share = float((units.critical_lambdas <= 0).mean())
    return 0.0 if rank is None else float(scipy.stats.binom.sf(rank - 1, units.n, share))


def hidden_share(curves: Curves, rule: Rule) -> float:
    """Return the mean share of the calibration images, or regions, that is hidden, on the grid of curves."""
    places = np.searchsorted(curves.grid, rule(covariates_of(curves)), side="right") - 1
    return float(curves.hidden_shares[np.arange(len(places)), places].mean())


def warn_if_ungrouped(promise: Guarantee, groups: Sequence[str], images: str) -> None:
    """Warn where a promise counts groups and every image is one by itself, as where none are stated."""
    if promise.by_group and len(groups) > 1 and len(set(groups)) == len(groups):
        warnings.warn(
            f"the promise counts groups, but each of the {len(groups)} {images} images is one by itself: "
            "state groups with --group-from (group_from=), folders or a column of the manifest, unless each "
            "group has one image",
            category=ConformaskWarning,
            stacklevel=4,
        )


def warn_if_meant_otherwise(threshold: float, loss: Loss) -> None:
    """Warn of a threshold that no image exceeds, or that only perfect images meet."""
    name, largest = loss.terms.name, loss.upper_bound
    if largest is not None and threshold >= largest:
        grey = (
            ""
            if loss.exponent != 1
            else (f"; if the threshold is in 8-bit grey values, give {threshold / GREY:.3g}")
        )
        warnings.warn(
            f"threshold {threshold:g}: {name} of images in [0, 1] never exceeds {largest:g}, so nothing is "
            f"hidden{grey}",
            category=ConformaskWarning,
            stacklevel=4,
        )
    elif threshold < PERFECT:
        warnings.warn(
            f"threshold {threshold:g}: {name} of images in [0, 1] is less than {PERFECT:g} only where "
            "pixels are equal to the last digit of a float, so nearly everything else is hidden",
            category=ConformaskWarning,
            stacklevel=4,
        )


def warn_if_closed(hidden: float, whole: str) -> None:
    """Warn if nearly all of the calibration images, or of their regions, is hidden."""
    if hidden > CLOSED:
        warnings.warn(
            f"these masks hide {hidden:.0%} of {whole} on average: the threshold is hard to keep with this "
            "score, or the loss grows where pixels are hidden; raise the threshold, lower the confidence, "
            "or use another loss or a better score",
            category=ConformaskWarning,
            stacklevel=4,
        )


def warn_if_few_pixels(loss: Loss, unmasked: Array) -> None:
    """Warn of images, by their unmasked losses, with too few noisy pixels for the central limit theorem."""
    few = int((unmasked >= UNKNOWN).sum())
    if loss.terms.allowance == "clt" and few:
        where = "an image" if loss.terms.window is None else "the window around each pixel that is shown"
        warnings.warn(
            f"{few} of the {len(unmasked)} calibration images are too small or too dark for an allowance by "
            f"the central limit theorem: it takes {LIT} independent pixels in which the repeats differ in "
            f"{where}. Take larger images or windows, or repeats with more counts, or leave what is black "
            "out of the region; allowance exact takes 200 x 200 pixels",
            category=ConformaskWarning,
            stacklevel=4,
        )


def columns_kept(curves: Curves) -> Columns:
    """Return the columns that the curves keep."""
    return {name: getattr(curves, name) for name in PLURALS}


def sample_counts(promise: Guarantee, curves: Curves) -> dict[str, Any]:
    """Return the number of groups or effective images for the card; None where images are counted."""
    population, columns = promise.population, columns_kept(curves)
    return {
        "n_groups": promise.unit.count(len(curves.names), columns) if promise.by_group else None,
        "n_effective": population.effective_size(columns) if isinstance(population, Weighted) else None,
    }


def declared_thresholds(promise: Guarantee) -> tuple[float, ...] | None:
    """Return the thresholds declared before calibration for a whole table of promises; None for others."""
    return promise.certainty.thresholds if isinstance(promise.certainty, Simultaneous) else None
