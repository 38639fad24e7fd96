"""What is checked before a promise is made or used: enough images, suitable columns, the same code."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from conformask.arithmetic import best_device, window_index
from conformask.arrays import Batch, Images, Triplet, Weigh
from conformask.errors import CalibrationError, InvalidArgumentError, MismatchError, warn
from conformask.images.triplets import Triplets
from conformask.losses import code_of
from conformask.losses.base import Loss
from conformask.losses.of_images import LIT, UNKNOWN
from conformask.masks.critical import size_at
from conformask.masks.families import FAMILIES
from conformask.masks.family import Family
from conformask.promises.axes import Columns, Group, SamePopulation, Simultaneous, Weighted
from conformask.promises.data import CalibrationData, Curves
from conformask.promises.order import SLACK, meets_threshold
from conformask.promises.promise import Promise
from conformask.promises.rules import CategoryLambda, Rule, covariates_of
from conformask.records.card import EVERY_CALIBRATION_IMAGE, EVERY_IMAGE
from conformask.records.fingerprints import fingerprint_of
from conformask.records.record import Array
from conformask.records.upgrade import named
from conformask.scores.scorer import Scorer
from conformask.scores.scoring import score_of

Shape = tuple[int, ...]
SIDE = 256
"""Side of a probe image in pixels, where images of any size are scored by tiles."""
KEPT = 64
"""Number of values of a probe's score that are kept along each side."""
PROBE_TOLERANCE = 1e-3
"""Largest accepted relative difference; scores round differently on other machines, by 1 % of it."""


@dataclass(frozen=True)
class Components:
    """The components that masks and the promise are computed with."""

    scorer: Scorer
    loss: Loss
    family: Family
    weigh: Weigh | None

    def fingerprints(self) -> dict[str, str]:
        """Return fingerprints of the scorer and of other components from the user, by argument name."""
        fingerprints = {"scorer": self.scorer.fingerprint, "loss": code_of(self.loss)}
        if not _ours(self.family):
            fingerprints["family"] = fingerprint_of(self.family)
        if self.weigh is not None:
            fingerprints["weight"] = fingerprint_of(self.weigh)
        return {name: fingerprint for name, fingerprint in fingerprints.items() if fingerprint is not None}

    def probe(self, x: Shape, y_hat: Shape) -> dict[str, Array]:
        """Compute the components' values on synthetic images (C, *space), by argument name.

        Built-in losses and families are left out: the card names them, and they may need weights that are not
        at hand.
        """
        images = [waves(shape, place).to(best_device()) for place, shape in enumerate((x, y_hat, y_hat))]
        counts = [self.scorer.cue_channels if name == "cues" else 1 for name in self.scorer.layers]
        maps = torch.split(waves((sum(counts), *y_hat[1:]), len(images)).to(best_device()), counts, dim=1)
        layers = dict(zip(self.scorer.layers, maps, strict=True))
        score = score_of(self.scorer, images[0], images[1], layers=layers).map
        scores = {"scorer": score}
        if code_of(self.loss) is not None:
            opened = torch.ones_like(images[1][:, :1])
            scores["loss"] = self.loss.on(images[2], images[1], None, 1).of(opened)
        if not _ours(self.family):
            scores["family"] = self._mask(score)
        if self.weigh is not None:
            scores["weight"] = self.weigh(images[0], images[1])
        arrays = {"shape": np.array([x, y_hat])}
        return arrays | {name: _thinned(value.detach().cpu().numpy()) for name, value in scores.items()}

    def _mask(self, score: Images) -> Images:
        lam = 1 / score.double().mean().clamp(min=1e-30)
        return self.family.apply(score, self.family.level(score, lam[None]))

    def refuse_changed(self, fingerprints: Mapping[str, str], probe: Mapping[str, Array]) -> None:
        """Refuse code that differs from the calibration's, or that gives other values."""
        now = self.fingerprints()
        fingerprints, probe = named(fingerprints), named(probe)
        changed = [name for name, fingerprint in fingerprints.items() if now.get(name) != fingerprint]
        if changed:
            raise MismatchError(f"the code or the weights of {_text(changed)} {CHANGED}")
        if probe:
            values = self.probe(*map(tuple, probe["shape"].tolist()))
            other = [name for name in probe if not _same_scores(values.get(name), probe[name])]
            if other:
                raise MismatchError(f"the values of {_text(other)} on a test image {CHANGED}")


CHANGED = (
    "have changed since the calibration, so its promise does not hold: pass the original code, or "
    "calibrate again"
)


def probe_shapes(scorer: Scorer, triplet: Triplet) -> tuple[Shape, Shape]:
    """Return the shapes (C, *space) of x and y_hat of a probe: those of the triplet, smaller for tiles."""
    shapes = triplet.x.shape, triplet.y_hat.shape
    part = min(1.0, SIDE / max(shapes[1][1:])) if scorer.tiles is not None else 1.0
    x, y_hat = ((c, *(max(1, round(side * part)) for side in space)) for c, *space in shapes)
    return x, y_hat


def _ours(family: Family) -> bool:
    return type(family) in FAMILIES.values()


def waves(shape: Shape, place: int) -> Images:
    """Make a test image (1, C, *space): waves in [0, 1] of several lengths, with a phase set by `place`."""
    channel, *planes, row, column = np.indices(shape)
    row = row + 0.5 * sum(planes)
    phases = (0.9 * row + 0.4 * column, 0.11 * row - 0.07 * column, 2.3 * column - 1.7 * row)
    waves = sum(np.sin(phase + channel + 1.3 * place) for phase in phases)
    return torch.from_numpy(0.5 + waves / 6.5).float()[None]


def _thinned(values: Array) -> Array:
    if values.ndim < 4:
        return values
    steps = (slice(None, None, max(1, side // KEPT)) for side in values.shape[2:])
    return np.ascontiguousarray(values[window_index(tuple(steps))])


def _same_scores(now: Array | None, then: Array) -> bool:
    if now is None or now.shape != then.shape:
        return False
    return bool(np.abs(now.astype(float) - then).max() <= PROBE_TOLERANCE * np.abs(then).max())


def _text(names: list[str]) -> str:
    return " and ".join(f"{name}=" for name in names)


TOLERANCE = 1e-3
"""Largest accepted relative difference; rounding differs by 1 % of it between batches of different sizes."""
FAINT = 0.25
"""Factor on the contrast of a probe image, which changes all of its statistics."""
LOOKED_AT = 8
"""Number of calibration images searched for one of the same shape as the first."""
Values = dict[str, Tensor]


def refuse_batch_dependence(scorer: Scorer, loss: Loss, weigh: Weigh | None, triplets: Triplets) -> None:
    """Compare score, loss and weight of a few images computed one by one and in one batch.

    The images are the first, the next of the same shape, and the first with a quarter of its contrast: a
    value divided by a maximum or a mean of the batch differs for at least one of them. Calibration and use
    combine different images in a batch, so such values would not be exchangeable.
    """

    def values(x: Images, y_hat: Images, y: Images, *layers: Images) -> Values:
        score = score_of(scorer, x, y_hat, layers=dict(zip(scorer.layers, layers, strict=True)))
        found = {f"the score {scorer.name!r}": score.map}
        if score.features is not None:
            found[f"a feature of the score {scorer.name!r}"] = score.features
        ones = torch.ones_like(y[:, :1])
        found[f"the distance {loss.name!r}"] = loss.on(y, y_hat, None, 1).of(ones).detach()
        return found if weigh is None else found | {"weight=": weigh(x, y_hat)}

    _compare(
        values,
        [torch.cat(images).to(best_device()) for images in zip(*_images(scorer, triplets), strict=True)],
    )


def _images(scorer: Scorer, triplets: Triplets) -> Iterator[tuple[Images, ...]]:
    """Yield x, y_hat and y of each probe image; only a corner of it if images are scored by tiles."""
    first, *others = (triplets[index] for index in range(min(LOOKED_AT, len(triplets))))
    shapes = (first.x.shape, first.y_hat.shape)
    alike = next((other for other in others if (other.x.shape, other.y_hat.shape) == shapes), None)
    corner = _corner(scorer, first)
    yield (images := corner(first))
    yield tuple(0.5 + FAINT * (image - 0.5) for image in images)
    if alike is not None:
        yield corner(alike)


def _corner(scorer: Scorer, triplet: Triplet) -> Callable[[Triplet], tuple[Images, ...]]:
    x, y_hat = probe_shapes(scorer, triplet)

    def corner(triplet: Triplet) -> tuple[Images, ...]:
        arrays = [(triplet.x, x), (triplet.y_hat, y_hat), (triplet.truth(), y_hat)]
        layers = [triplet.layers[name] for name in scorer.layers]
        arrays += [(layer, (len(layer), *y_hat[1:])) for layer in layers]
        return tuple(torch.from_numpy(array[tuple(map(slice, shape))])[None] for array, shape in arrays)

    return corner


def _compare(values: Callable[..., Values], batch: list[Images]) -> None:
    together = values(*batch)
    for place in range(len(batch[0])):
        for what, alone in values(*(images[place : place + 1] for images in batch)).items():
            difference = float((together[what][place : place + 1] - alone).abs().max())
            if not difference <= TOLERANCE * float(alone.abs().max()):
                raise CalibrationError(
                    f"{what} of an image differs by {difference:.3g} when there are other images in its "
                    "batch: compute it for each image separately, without batch statistics or randomness "
                    "(put a module in eval mode)"
                )


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
    promise: Promise,
    threshold: float,
    loss: Loss,
    n: int,
    columns: Columns,
    part: str = "calibration",
) -> None:
    """Refuse a promise that n images with these groups, categories and weights cannot support."""
    for need in promise.columns:
        if columns.get(need) is None:
            raise InvalidArgumentError(
                f"the {promise.guarantee} guarantee needs the {need} of each image: add a column {need} to "
                f"the manifest, or {PLURALS[need]}= to the arrays"
            )
    _independent(promise, n, columns.get("group"))
    if {"group", "weight"} <= promise.columns:
        _refuse_unequal_weights(columns["weight"], columns["group"])
    count, unit = promise.counted(n, columns)
    own = loss.own_bounds and promise.own_bounds
    needed = promise.smallest_calibration_set(threshold, None if own else loss.upper_bound)
    if count < needed:
        confidence = promise.confidence
        level = f"threshold {threshold:.4g}" if confidence is None else f"confidence {confidence:g}"
        raise CalibrationError(
            f"{count} {unit} are too few for {level} ({promise.guarantee}): it needs at least {needed} "
            f"{part} {unit}; add some or ask for less"
        )


def _refuse_unequal_weights(weight: Array | None, group: Array | None) -> None:
    if weight is None or group is None:
        return
    pairs = len(np.unique(np.column_stack([group, weight.astype(str)]), axis=0))
    if pairs > len(np.unique(group)):
        raise InvalidArgumentError(
            "the images of a group have different weights: give them all the weight of the group"
        )


def _independent(promise: Promise, n: int, group: Array | None) -> None:
    groups = n if group is None else len(np.unique(group))
    if groups < n and not promise.by_group:
        raise CalibrationError(
            f"{n} images in {groups} groups are dependent: the {promise.guarantee} promise needs one image "
            "per group; choose the unit group (every image of a new group) or image_of_new_group, keep one "
            "image per group, or make the promise about new tiles of these files (triplets --stride with "
            "--split within)"
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


def warn_if_hidden(promise: Promise, seen: CalibrationData, rule: Rule, hidden: float) -> None:
    """Warn if only closed masks keep the promise, or if that was close.

    Such maskers are issued nevertheless: if promises were given only where masks open, they would rest on
    lucky calibration sets, and be kept less often than they say.
    """
    hides = hidden_by(rule, hidden)
    fail = float((seen.critical_lambdas <= 0).mean())
    of_them = f"{fail:.0%} of the {seen.n} calibration images exceed the threshold under any open mask"
    if hides is not None:
        why = of_them if fail > 0 else "there are too few images, or their errors vary too much"
        warn(
            f"the promise is kept only by hiding {hides} completely: {why}. A larger threshold or a lower "
            "confidence that is chosen now is exploratory: to rely on it, calibrate with it on images that "
            "no choice has seen"
        )
    elif (chance := chance_of_hiding(promise, seen)) > NEAR:
        warn(
            f"{of_them}: about {chance:.0%} of such calibration sets would keep the promise only by hiding "
            "every image"
        )


def chance_of_hiding(promise: Promise, seen: CalibrationData) -> float:
    """Return the share of calibration sets like this one for which everything is hidden.

    It is P(Bin(n, share at 0) >= rank); 0 where no single rank decides.
    """
    units = promise.axes.unit.reduce(seen) if isinstance(promise.axes.unit, Group) else seen
    rank = promise.rank(units.n) if isinstance(promise.axes.population, SamePopulation) else None
    share = float((units.critical_lambdas <= 0).mean())
    return 0.0 if rank is None else float(scipy.stats.binom.sf(rank - 1, units.n, share))


def hidden_share(curves: Curves, rule: Rule) -> float:
    """Return the mean share of the calibration images, or regions, that is hidden, on the grid of curves."""
    places = np.searchsorted(curves.grid, rule(covariates_of(curves)), side="right") - 1
    return float(curves.hidden_shares[np.arange(len(places)), places].mean())


def ungrouped_text(promise: Promise, groups: Sequence[str], kind: str = "") -> str | None:
    """Return what to say where a promise counts groups and every image is one by itself; else None.

    `kind` is a word for the images, with a blank after it.
    """
    if not promise.by_group or len(groups) < 2 or len(set(groups)) < len(groups):
        return None
    return (
        f"the promise counts groups, but each of the {len(groups)} {kind}images is one by itself: state "
        "groups with --group-from (group_from=), folders or a column of the manifest, unless each group has "
        "one image"
    )


FAR_LESS = 0.8
"""A guarantee hides far less than another if it hides at most this share of what the other hides."""


def warn_if_another_hides_less(curves: Curves | None, threshold: float, promise: Promise, loss: Loss) -> None:
    """Warn where ltt, which promises more than marginal, hides far less of the selection images.

    For losses that are not monotone, marginal ends each image's masks at its own first crossing, however
    narrow; ltt only looks at how many images fail at each lambda.
    """
    is_plain = promise.guarantee == "marginal" and promise == Promise("marginal", promise.confidence)
    if curves is None or loss.monotone or not is_plain:
        return
    stronger = Promise("ltt", promise.confidence)
    if len(curves.names) < stronger.smallest_calibration_set(threshold, loss.upper_bound):
        return
    hidden, of_stronger = (size_at(curves, threshold, each, loss) for each in (promise, stronger))
    if of_stronger <= FAR_LESS * hidden:
        warn(
            f"guarantee ltt, which promises more, would hide about {of_stronger:.0%} where marginal hides "
            f"{hidden:.0%}, by {len(curves.names)} selection images: --guarantee ltt (promise='ltt')"
        )


def warn_if_meant_otherwise(threshold: float, loss: Loss) -> None:
    """Warn of a threshold that no image exceeds, or that only perfect images meet."""
    name, largest = loss.name, loss.upper_bound
    if largest is not None and threshold >= largest:
        grey = (
            ""
            if loss.exponent != 1
            else (f"; if the threshold is in 8-bit grey values, give {threshold / GREY:.3g}")
        )
        warn(
            f"threshold {threshold:g}: {name} of images in [0, 1] never exceeds {largest:g}, so nothing is "
            f"hidden{grey}"
        )
    elif threshold < PERFECT:
        warn(
            f"threshold {threshold:g}: {name} of images in [0, 1] is less than {PERFECT:g} only where "
            "pixels are equal to the last digit of a float, so nearly everything else is hidden"
        )


def warn_if_closed(hidden: float, whole: str) -> None:
    """Warn if nearly all of the calibration images, or of their regions, is hidden."""
    if hidden > CLOSED:
        warn(
            f"these masks hide {hidden:.0%} of {whole} on average: the threshold is hard to keep with this "
            "score, or the loss grows where pixels are hidden; raise the threshold, lower the confidence, "
            "or use another loss or a better score"
        )


def warn_if_few_pixels(loss: Loss, unmasked: Array) -> None:
    """Warn of images, by their unmasked losses, with too few noisy pixels for the central limit theorem."""
    few = int((unmasked >= UNKNOWN).sum())
    if loss.lit_within and few:
        warn(
            f"{few} of the {len(unmasked)} calibration images are too small or too dark for an allowance by "
            f"the central limit theorem: it takes {LIT} independent pixels in which the repeats differ in "
            f"{loss.lit_within}. Take larger images or windows, or repeats with more counts, or leave what "
            "is black out of the region; allowance exact takes 200 x 200 pixels"
        )


def columns_kept(curves: Curves) -> Columns:
    """Return the columns that the curves keep."""
    return {name: getattr(curves, name) for name in PLURALS}


def sample_counts(promise: Promise, curves: Curves) -> dict[str, Any]:
    """Return the number of groups or effective images for the card; None where images are counted."""
    population, columns = promise.axes.population, columns_kept(curves)
    return {
        "n_groups": promise.axes.unit.count(len(curves.names), columns) if promise.by_group else None,
        "n_effective": population.effective_size(columns) if isinstance(population, Weighted) else None,
    }


def declared_thresholds(promise: Promise) -> tuple[float, ...] | None:
    """Return the thresholds declared before calibration for a whole table of promises; None for others."""
    return promise.axes.certainty.thresholds if isinstance(promise.axes.certainty, Simultaneous) else None


def weights_of(weigh: Weigh, batch: Batch) -> Float[np.ndarray, "n"]:
    """Compute the likelihood ratios of a batch with the user's callable."""
    return checked_weights(weigh(batch.x, batch.y_hat).detach().double().cpu().numpy(), len(batch.names))


def checked_weights(values: Array, n: int) -> Float[np.ndarray, "n"]:
    """Return the values after checking that they are weights of n images."""
    if values.shape != (n,) or not (np.isfinite(values) & (values > 0)).all():
        raise InvalidArgumentError(
            f"weight= must give a finite number above 0 for each of {n} images, "
            f"not {values.shape} values from {values.min():g} to {values.max():g}"
        )
    return values


def warn_of_scale(weights: Float[np.ndarray, "n"], calibrated: tuple[float, float] | None) -> None:
    """Warn of weights outside the range of the calibration's, which may be on another scale."""
    if calibrated is None:
        return
    low, high = calibrated
    outside = weights[(weights < low * (1 - SLACK)) | (weights > high * (1 + SLACK))]
    if outside.size:
        warn(
            f"a weight of {outside[0]:g} is outside the range of the calibration weights, {low:g} to "
            f"{high:g}: weights are known up to a constant factor, which must be the same for both"
        )
