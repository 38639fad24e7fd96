"""The guards of a calibration: one list a stage, in the order in which it is said what they find."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import scipy

from conformask.errors import CalibrationError, MismatchError, warn
from conformask.images.scan import copies_text, copies_within
from conformask.losses.base import Loss
from conformask.losses.masked_distance import code_of
from conformask.masker.case import Asked, Issued, Measured, Scanned
from conformask.masker.checks import (
    check_sample_size,
    check_spacing,
    check_threshold,
    refuse_duplicates,
    refuse_known,
    refuse_noisy,
    refuse_unbounded,
    warn_of_copies,
    warn_of_learnt,
    warn_of_spellings,
)
from conformask.masker.components import refuse_batch_dependence
from conformask.masks.critical import size_at
from conformask.promises.axes import Group, SamePopulation
from conformask.promises.order import CalibrationData, Curves
from conformask.promises.promise import Promise
from conformask.records.names import WITHOUT_TRAINING
from conformask.records.reading import among, extra_text, size_text
from conformask.records.selection import is_quantile
from conformask.scores.scorer import as_scorer
from conformask.scores.untrained import Given, Untrained

Known = TypeVar("Known")


def at(stage: Sequence[Callable[[Known], None]], known: Known) -> None:
    """Run the guards of a stage on what is known then."""
    for guard in stage:
        guard(known)


def asked_threshold(asked: Asked) -> None:
    """Refuse a number that no loss reaches, as a threshold."""
    if asked.threshold is not None and not is_quantile(asked.threshold):
        values = asked.images.values
        check_threshold(float(asked.threshold), asked.loss, 1 if values is None else values.span)


def bounded_mean(asked: Asked) -> None:
    """Refuse a promise about the mean of a loss without an upper bound."""
    refuse_unbounded(asked.promise, asked.loss)


def theorem(asked: Asked) -> None:
    """Refuse a promise without a theorem for noisy references."""
    refuse_noisy(asked.promise, asked.loss, asked.images.reference)


def layers(asked: Asked) -> None:
    """Refuse images without the layers that the loss needs, and patches of what is shown whole."""
    extent = asked.loss.extent
    extent.check_layers(asked.images.has)
    if asked.request.patches is not None:
        extent.refuse("patches")


def network(asked: Asked) -> None:
    """Refuse outputs of another network than that whose errors the score was trained on."""
    if not isinstance(scorer := asked.request.scorer, Untrained | Given):
        trained = as_scorer(scorer)
        if trained.name not in WITHOUT_TRAINING:
            asked.images.check_made_by(trained.about, "the scorer")


ASKED: Sequence[Callable[[Asked], None]] = (asked_threshold, bounded_mean, theorem, layers, network)
"""Guards of what is asked for, before an image is read or scored."""


def enough_images(scanned: Scanned) -> None:
    """Refuse too few images for the promise, unless their weights are yet to be computed."""
    case = scanned.case
    if case.promise.weight is None:
        check_sample_size(case.promise, case.threshold, case.loss, len(case.images), case.images.columns)


def measured_threshold(scanned: Scanned) -> None:
    """Warn of a threshold that was measured on selection images, and that hardly a loss exceeds."""
    if scanned.case.threshold_quantile is not None:
        check_threshold(scanned.case.threshold, scanned.case.loss)


FAR_LESS = 0.8
"""A guarantee hides far less than another if it hides at most this share of what the other hides."""


def stronger_guarantee(scanned: Scanned) -> None:
    """Warn where another guarantee promises more and hides far less of the selection images."""
    case = scanned.case
    warn_if_another_hides_less(case.selection_curves, case.threshold, case.promise, case.loss)


def warn_if_another_hides_less(curves: Curves | None, threshold: float, promise: Promise, loss: Loss) -> None:
    """Warn where ltt, which promises more than marginal, hides far less of the selection images.

    For losses that are not monotone, marginal ends each image's masks at its own first crossing, however
    narrow; ltt only looks at how many images fail at each lambda.
    """
    is_plain = promise.guarantee == "marginal" and promise == Promise("marginal", promise.confidence)
    if curves is None or loss.traits.monotone or not is_plain:
        return
    stronger = Promise("ltt", promise.confidence)
    if len(curves.names) < stronger.smallest_calibration_set(threshold, loss.traits.upper_bound):
        return
    hidden, of_stronger = (size_at(curves, threshold, each, loss) for each in (promise, stronger))
    if of_stronger <= FAR_LESS * hidden:
        warn(
            f"guarantee ltt, which promises more, would hide about {of_stronger:.0%} where marginal hides "
            f"{hidden:.0%}, by {len(curves.names)} selection images: --guarantee ltt (promise='ltt')"
        )


def measured_layers(scanned: Scanned) -> None:
    """Refuse images by their spacing, and by what was measured of their layers."""
    loss, seen = scanned.case.loss, scanned.seen
    check_spacing(loss, seen.geometry)
    loss.traits.truth.check_measures(seen.measures)
    for kinds, text, breaks in seen.measures.verdicts():
        if breaks:
            raise CalibrationError(f"nothing can be promised by these {kinds}: {text}")
        warn(text)


def independence(scanned: Scanned) -> None:
    """Refuse images that an earlier step has seen, or that occur twice; warn of what looks like a copy."""
    case, seen, chosen_on = scanned.case, scanned.seen, scanned.chosen_on
    if ungrouped := case.promise.ungrouped_text(case.images.groups, "calibration "):
        warn(ungrouped)
    known = case.scorer.trained_on.union(() if chosen_on is None else chosen_on.image_ids)
    refuse_known(known, case.images, seen.pixels)
    refuse_duplicates(seen, case.images.groups)
    if case.images.provenance.population is not None:  # tiles cut by conformask are not copies
        return
    warn_of_learnt(seen, case.scorer, "calibration")
    if chosen_on is not None:
        hashes = chosen_on.perceptual_hashes
        warn_of_copies(seen, hashes, "calibration", "are used for choices (selection)")
    pairs = copies_within(seen.perceptual_hashes, case.images.groups, seen.smallest)
    if copies := copies_text(seen.names, pairs, "calibration images"):
        warn(copies)


def plausible_files(scanned: Scanned) -> None:
    """Warn of channels that the packaged score does not use, of swapped folders, and of spellings."""
    seen = scanned.seen
    if scanned.case.scorer.name == "packaged" and (extra := extra_text(seen.x_channels, seen.channels)):
        warn(extra)
    if seen.swapped is not None:
        warn(seen.swapped)
    warn_of_spellings(filter(None, scanned.case.images.categories))


def shapes(scanned: Scanned) -> None:
    """Refuse other channels, or sizes, than those of the scorer."""
    scorer, seen = scanned.case.scorer, scanned.seen
    if seen.channels != scorer.channels:
        raise MismatchError(
            f"the scorer takes y_hat with {scorer.channels} channels, but these have {seen.channels}"
        )
    known = scorer.sizes
    if known is not None and not all(among(size, known) for size in seen.sizes):
        raise MismatchError(
            f"the scorer was trained on images of {', '.join(map(size_text, known))} pixels, but these have "
            f"{', '.join(map(size_text, seen.sizes))}: crop or scale them to that size, or score them by "
            "tiles, --tiled (cm.Tiled(scorer))"
        )


def one_by_one(scanned: Scanned) -> None:
    """Refuse code that mixes the images of a batch; that of conformask is tested, and scoring it costs."""
    case = scanned.case
    if case.scorer.name != "packaged" or code_of(case.loss) is not None or case.promise.weight is not None:
        refuse_batch_dependence(case.scorer, case.loss, case.promise.weight, case.images)


SCANNED: Sequence[Callable[[Scanned], None]] = (
    enough_images,
    measured_threshold,
    stronger_guarantee,
    measured_layers,
    independence,
    plausible_files,
    shapes,
    one_by_one,
)
"""Guards of the calibration images once they are read, before they are scored."""


def enough_by_weight(measured: Measured) -> None:
    """Refuse too few images for the promise, by the weights that were computed."""
    case, columns = measured.case, measured.curves.columns
    if case.promise.weight is not None:
        check_sample_size(case.promise, case.threshold, case.loss, len(case.images), columns)


MEASURED: Sequence[Callable[[Measured], None]] = (enough_by_weight,)
"""Guards of the measures of the calibration images, before the rule."""
CLOSED = 0.9
"""Mean mask size above which masks are hardly useful."""
NEAR = 0.05
"""Chance above which a warning says that another calibration set might hide everything."""


def spoilt_losses(issued: Issued) -> None:
    """Warn of what may spoil the promise, by the losses without a mask."""
    for text in issued.measured.case.loss.traits.truth.warnings(issued.measured.curves.loss[:, -1]):
        warn(text)


def closed_masks(issued: Issued) -> None:
    """Warn if (nearly) only closed masks keep the promise, or hide nearly all.

    Such maskers are issued nevertheless: if promises were given only where masks open, they would rest on
    lucky calibration sets, and be kept less often than they say.
    """
    card, seen = issued.card, issued.measured.losses
    fail = float((seen.critical_lambdas <= 0).mean())
    of_them = f"{fail:.0%} of the {seen.n} calibration images exceed the threshold under any open mask"
    if card.hides is not None:
        why = of_them if fail > 0 else "there are too few images, or their errors vary too much"
        warn(
            f"the promise is kept only by hiding {card.hides} completely: {why}. A larger threshold or a "
            "lower confidence that is chosen now is exploratory: to rely on it, calibrate with it on images "
            "that no choice has seen"
        )
    elif (chance := chance_of_hiding(issued.measured.case.promise, seen)) > NEAR:
        warn(
            f"{of_them}: about {chance:.0%} of such calibration sets would keep the promise only by hiding "
            "every image"
        )
    if card.hidden is not None and CLOSED < card.hidden < 1:
        warn(
            f"these masks hide {card.hidden:.0%} of {card.loss.extent.whole} on average: the threshold is "
            "hard to keep with this score, or the loss grows where pixels are hidden; raise the threshold, "
            "lower the confidence, or use another loss or a better score"
        )


ISSUED: Sequence[Callable[[Issued], None]] = (spoilt_losses, closed_masks)
"""Guards of a promise that was made: they only warn."""


def chance_of_hiding(promise: Promise, seen: CalibrationData) -> float:
    """Return the share of calibration sets like this one for which everything is hidden.

    It is P(Bin(n, share at 0) >= rank); 0 where no single rank decides.
    """
    units = promise.axes.unit.reduce(seen) if isinstance(promise.axes.unit, Group) else seen
    rank = promise.rank(units.n) if isinstance(promise.axes.population, SamePopulation) else None
    share = float((units.critical_lambdas <= 0).mean())
    return 0.0 if rank is None else float(scipy.stats.binom.sf(rank - 1, units.n, share))
