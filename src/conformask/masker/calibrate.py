"""Calibration: making a masker from a scorer and triplets that the scorer has not seen."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float

from conformask import names
from conformask.calibration import ScoredBatch, calibration_data, lambda_grid, measures
from conformask.conformal.crossing import between_grid_points, refined
from conformask.conformal.curves import Curves
from conformask.conformal.guarantee import Guarantee
from conformask.conformal.image_bound import fit_loss_quantile
from conformask.conformal.lambdas import LogLinear
from conformask.conformal.presets import DEFAULTS
from conformask.conformal.promise import AnyPromise, Promise
from conformask.conformal.promise import promise as promise_from
from conformask.data.formats.header import Header
from conformask.data.scan import DatasetSummary, columns_of, labelled, scan
from conformask.data.triplets import Triplets, refuse_others
from conformask.errors import CalibrationError, InvalidArgumentError, MismatchError
from conformask.losses import AnyLoss
from conformask.masker.appearance import appearance
from conformask.masker.batch_invariance import refuse_batch_dependence
from conformask.masker.data_leakage import (
    refuse_duplicates,
    warn_if_swapped,
    warn_of_copies,
    warn_of_copies_within,
    warn_of_learnt,
    warn_of_spellings,
)
from conformask.masker.integrity import Components, probe_shapes
from conformask.masker.masker import Masker
from conformask.masker.requirements import (
    check_sample_size,
    closed_masks_pass,
    columns_kept,
    declared_thresholds,
    hidden_by,
    hidden_share,
    sample_counts,
    warn_if_closed,
    warn_if_hidden,
    warn_if_meant_otherwise,
)
from conformask.masker.resolve import check_window, family_for, loss_for, refuse_unbounded
from conformask.masker.weights import weights_of
from conformask.masks.mask_family import Family
from conformask.records.card import CalibrationCard, now
from conformask.records.network import check_network
from conformask.records.reading import Reading
from conformask.records.selection import ScoreComparison, Selection
from conformask.records.size import Size, among, extra_text, size_text
from conformask.records.threshold import level_of, threshold_of
from conformask.scorers.benchmark import ScoreBenchmark, warn_if_useless
from conformask.scorers.network_scorer import NetworkScorer
from conformask.scorers.scorer import Scorer
from conformask.scorers.scoring import scored, selection_record
from conformask.scorers.streaming import check_parts, gathered, parts_folder
from conformask.scorers.untrained import Untrained, check_scorer, for_images
from conformask.storage.as_arrays import Array
from conformask.storage.as_json import Json
from conformask.training.processes import ONE_DEVICE, Compute
from conformask.types import Loss, Weigh

WHOLE = "whole images"


GRID_FROM = 8
"""Number of calibration images that a grid is made from if there are no selection images."""


@dataclass(frozen=True)
class Choices:
    """All choices, fixed before a calibration image is looked at."""

    promise: Guarantee
    loss: Loss
    family: Family
    threshold: float
    grid: Float[np.ndarray, "g"] | None
    weigh: Weigh | None
    image_errors: LogLinear | None


def calibrate(
    scorer: Scorer | Untrained,
    images: Triplets,
    *,
    threshold: float | str,
    loss: AnyLoss | None = None,
    promise: AnyPromise = "marginal",
    family: str | Mapping[str, Json] | Family | None = None,
    selection: Triplets | None = None,
    compute: Compute = ONE_DEVICE,
    allow_network_mismatch: bool = False,
) -> Masker:
    """Find the lambda with which masks keep the promise.

    Args:
        scorer: from fit_scorer, packaged_scorer(), or any Scorer; Tiled(scorer) for whole images of any size.
        images: triplets that neither the scorer nor the predictor has seen; they are streamed.
        threshold: the largest loss wanted (the paper's alpha), or "q0.1": the 0.1-quantile of the unmasked
            loss on the selection images.
        loss: what the promise is about: a loss such as `Window("l1", 9)`, or what `conformask.losses.loss`
            takes ("l1", "ssim", a callable); the scorer's if None. Any score keeps any promise; masks are
            smallest with one that was fitted for the loss.
        promise: a `Promise`, or the name of a guarantee.
        family: a name, settings such as {"name": NAME, "epsilon": 1e-2}, or an object; if None the one that
            suits the loss, or the scorer.
        selection: triplets for the grid and other choices, instead of those that the scorer keeps.
        compute: the devices, and a folder for finished parts, from which a killed calibration resumes.
        allow_network_mismatch: calibrate on outputs of another network than the scorer was trained on.

    Raises:
        InvalidArgumentError: an argument outside what is allowed, or something that the guarantee needs and
            that is not there.
        CalibrationError: too few images for the promise; says how many it needs. Where there are enough, but
            too many of them fail under any open mask, all masks are closed, with a warning.
        MismatchError: images that the scorer was not fitted for.
        ImageError: an image that cannot be used, or a region that is empty.

    Example:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> masker.sentence
        'P(l1 <= 0.05) >= 0.90 for new images like the 30 calibration images (marginal)'
    """
    check_scorer(scorer)
    check_parts(compute)
    refuse_others(images, selection)
    stated, used = promise_from(promise), loss_for(scorer, loss, images)
    guarantee, weight = stated.resolve(), stated.weight
    refuse_unbounded(guarantee, used)
    scorer = for_images(scorer, images, used)
    if scorer.name not in names.UNTRAINED:
        check_network(
            scorer.about, images.network, "the scorer", allow_network_mismatch=allow_network_mismatch
        )
    used_family = family_for(scorer, used, family)
    record = scorer.selection
    if selection is not None:
        record = selection_record(scorer, selection, used, [used_family])
        if isinstance(scorer, NetworkScorer) and scorer.name in names.UNTRAINED:
            level = level_of(threshold, record.unmasked_loss)
            record = replace(
                record, comparison=_compared_with_others(scorer, selection, used, used_family, level)
            )
            scorer = replace(scorer, selection=record)
    elif record is not None and record.of != used.terms:
        record = None
    columns = columns_of(images) | ({} if weight is None else {"weight": np.ones(len(images))})
    units, _ = guarantee.counted(len(images), columns)
    choices = _fixed(guarantee, used, used_family, threshold, record, units, weight)
    check_sample_size(choices.promise, choices.threshold, used, len(images), columns)
    with parts_folder(compute):
        seen = scan(images, "reading calibration images")
        check_window(used.terms, seen.geometry)
        chosen_on = None if selection is None else scan(selection, "reading selection images")
        _refuse_unfit(scorer, images, seen, chosen_on)
        first, code = images[0], Components(scorer, used, used_family, weight)
        refuse_batch_dependence(scorer, used, weight, images)
        probe = code.probe(*probe_shapes(scorer, first))
        closed = [_loss_of_closed(used, seen.channels, size) for size in seen.sizes]
        closed_masks_pass(np.array(closed), choices.threshold, used.terms.name)
        fingerprints = code.fingerprints()
        own_grid = choices.grid is None
        if own_grid:
            choices = replace(choices, grid=_own_grid(scorer, images, used, used_family))
        curves, critical = _gathered(scorer, images, choices, (fingerprints, seen.contents), compute)
    check_sample_size(choices.promise, choices.threshold, used, len(images), columns_kept(curves))
    seen_losses = calibration_data(curves, choices.threshold, used, critical)
    rule = choices.promise.rule(seen_losses)
    warn_if_hidden(choices.promise, seen_losses, rule, used.terms.name)
    hidden = hidden_share(curves, rule)
    if not rule.is_vacuous:
        warn_if_closed(hidden)
    card = _card(scorer, choices, images, seen, curves, stated, rule.to_json(), fingerprints)
    card = replace(card, hides=hidden_by(rule), hidden=hidden, own_grid=own_grid)
    return Masker(
        scorer, used, used_family, rule, card, critical, curves, weight, seen.perceptual_hashes, probe
    )


def _compared_with_others(
    scorer: NetworkScorer, selection: Triplets, loss: Loss, family: Family, threshold: float
) -> ScoreComparison | None:
    """Compare a score that needs no training with other scores; None if there are too few images."""
    benchmark = ScoreBenchmark.on(selection, loss, family, threshold)
    if benchmark is None:
        return None
    comparison = benchmark.compare(scorer)
    warn_if_useless(comparison, scorer.name)
    return comparison


def _own_grid(scorer: Scorer, calibration: Triplets, loss: Loss, family: Family) -> Array:
    """Make a grid from a few calibration images, where there are no selection images.

    The grid does not determine lambda here. For a monotone loss and a promise that deploys an order
    statistic, any lambda below the exact one keeps the promise, so a grid point may also be deployed later.
    """
    some = calibration.select(range(min(len(calibration), GRID_FROM)))
    return lambda_grid(family, loss, list(scored(scorer, some, "grid")))


def _loss_of_closed(loss: Loss, channels: int, size: Size) -> float:
    """Return the loss of an empty image under the closed mask."""
    zeros = torch.zeros(1, channels, *size)
    return float(loss.on(zeros, zeros, torch.ones(1, 1, *size), 1).of(zeros[:, :1]))


def _fixed(
    promise: Guarantee,
    loss: Loss,
    family: Family,
    threshold: float | str,
    record: Selection | None,
    n: int,
    weigh: Weigh | None,
) -> Choices:
    """Make every choice on the selection images."""
    level = threshold_of(threshold, record)
    warn_if_meant_otherwise(level, loss)
    curves = None if record is None else record.curves.get(family.name)
    if curves is None and (not loss.monotone or promise.on_grid or promise.needs_selection):
        what = f"guarantee {promise.name!r}" if loss.monotone else f"loss {loss.terms.name!r}"
        raise InvalidArgumentError(
            f"{what} needs selection images for a grid and other choices, but none are kept for "
            f"{family.name}: pass selection="
        )
    if curves is not None and promise.needs_selection:
        promise = promise.fit_on_selection(calibration_data(curves, level, loss), n)
    grid = _grid(curves, promise, loss, level)
    return Choices(promise, loss, family, level, grid, weigh, _image_errors(curves, promise))


def _image_errors(curves: Curves | None, promise: Guarantee) -> LogLinear | None:
    """Regress the unmasked loss of the selection images on the features of their scores."""
    if curves is None or curves.features is None:
        return None
    return fit_loss_quantile(
        curves.features, curves.loss[:, -1], promise.confidence or DEFAULTS["confidence"]
    )


def _grid(
    curves: Curves | None, promise: Guarantee, loss: Loss, threshold: float
) -> Float[np.ndarray, "g"] | None:
    """Return the grid of the selection images, refined near the expected lambda if that must be on it."""
    if curves is None or promise.confidence is None or (loss.monotone and not promise.on_grid):
        return None if curves is None else curves.grid
    return refined(curves.grid, between_grid_points(curves.grid, curves.loss, threshold), promise.confidence)


def _gathered(
    scorer: Scorer, calibration: Triplets, choices: Choices, made_of: object, compute: Compute
) -> tuple[Curves, Float[np.ndarray, "n"]]:
    grid, bounded = cast(Array, choices.grid), choices.promise.own_bounds

    def measure(item: ScoredBatch) -> dict[str, Array]:
        columns = measures(item, choices.family, choices.loss, grid, choices.threshold, bounded=bounded)
        columns |= {"appearance": appearance(item.batch)}
        if choices.weigh is None:
            return columns
        return columns | {"weight": weights_of(choices.weigh, item.batch)}

    key = (
        choices.family.settings(),
        vars(choices.loss.terms),
        grid.tolist(),
        choices.threshold,
        bounded,
        "appearance",  # missing in parts written by earlier versions
        made_of,
    )
    columns = gathered(scorer, calibration, measure, "calibrating", key, compute)
    critical = columns.pop("critical_lambda")
    curves = Curves.from_arrays(columns | {"grid": grid})
    return labelled(curves, calibration), critical


def _card(
    scorer: Scorer,
    choices: Choices,
    calibration: Triplets,
    seen: DatasetSummary,
    curves: Curves,
    stated: Promise,
    rule: Mapping[str, Json],
    fingerprints: Mapping[str, str],
) -> CalibrationCard:
    promise, tiles = choices.promise, scorer.tiles
    return CalibrationCard(
        threshold=choices.threshold,
        promise=replace(stated, weight=None),
        claim=promise.claim(choices.loss.terms.name, choices.threshold),
        loss=choices.loss.terms,
        family=choices.family.settings(),
        rule=rule,
        exact=choices.loss.monotone and not promise.on_grid,
        exploratory=False,
        thresholds=declared_thresholds(promise),
        n_calibration=len(calibration),
        **sample_counts(promise, curves),
        weights=None if curves.weight is None else (float(curves.weight.min()), float(curves.weight.max())),
        channels=seen.channels,
        sizes=seen.sizes,
        **calibration.reading.kept,
        geometry=seen.geometry,
        **_values_of(calibration),
        population=calibration.provenance.population or (tiles and WHOLE),
        calibrated=now(),
        calibrated_on=seen.image_ids,
        tiles=tiles,
        network=calibration.network,
        image_errors=None if choices.image_errors is None else choices.image_errors.to_json(),
        code=fingerprints,
    )


def _values_of(calibration: Triplets) -> dict[str, Any]:
    """Return the fields of `Domain` about the values of the first x and y_hat, from their headers."""
    x, y_hat, reading = calibration.header(0, "x"), calibration.header(0, "y_hat"), calibration.reading
    inverted = {"x": x.turned_about, "y_hat": y_hat.turned_about}
    return {
        "range_of_x": _range_of(reading.of("x"), x),
        "range_of_y_hat": _range_of(reading.of("y_hat"), y_hat),
        "turned": tuple(role for role, about in inverted.items() if about is not None),
    }


def _range_of(reading: Reading, header: Header) -> tuple[float, float] | None:
    """Return the least and the largest value of an image: as stated, or from its header.

    For a file with inverted values, they are the range of the values stored in the file.
    """
    used, about = reading.data_range or header.data_range, header.turned_about
    return used if used is None or about is None else (about - used[1], about - used[0])


def _refuse_unfit(
    scorer: Scorer, calibration: Triplets, seen: DatasetSummary, chosen_on: DatasetSummary | None
) -> None:
    """Refuse images that were used for training or selection, and warn of lookalikes."""
    image_ids = scorer.trained_on | frozenset(calibration.provenance.trained_on)
    image_ids |= frozenset(() if chosen_on is None else chosen_on.image_ids)
    leaked = seen.among(image_ids)
    if leaked:
        raise CalibrationError(
            f"{len(leaked)} of {len(calibration)} calibration images were used to train or select the "
            "scorer or the predictor; the promise needs images that neither has seen. One of them, "
            f"recognised by its pixels or its group, is {leaked[0]!r}"
        )
    refuse_duplicates(seen, calibration.groups)
    if calibration.provenance.population is None:  # tiles cut by conformask are not copies
        warn_of_learnt(seen, scorer, "calibration")
        if chosen_on is not None:
            warn_of_copies(
                seen, chosen_on.perceptual_hashes, "calibration", "are used for choices (selection)"
            )
        warn_of_copies_within(seen, calibration.groups)
    if scorer.name == "packaged" and (unseen := extra_text(seen.x_channels, seen.channels)):
        warnings.warn(unseen, stacklevel=3)
    warn_if_swapped(seen)
    warn_of_spellings(filter(None, calibration.categories))
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
