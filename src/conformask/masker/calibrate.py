"""Calibration: making a masker from a scorer and triplets that the scorer has not seen."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import compress
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float

from conformask.background import DEFAULT_DEVICES, Compute
from conformask.errors import CalibrationError, MismatchError, warn
from conformask.images.noise import reference_faults, reference_warnings, refuse_short_reach
from conformask.images.rows import Role
from conformask.images.scan import DatasetSummary, labelled, scan
from conformask.images.triplets import Triplets, refuse_others
from conformask.losses import AnyLoss
from conformask.losses.base import Loss
from conformask.masker.data_leakage import (
    refuse_duplicates,
    used_images,
    warn_of_copies,
    warn_of_copies_within,
    warn_of_learnt,
    warn_of_spellings,
)
from conformask.masker.guards import (
    Components,
    check_sample_size,
    closed_masks_pass,
    columns_kept,
    declared_thresholds,
    hidden_by,
    hidden_share,
    probe_shapes,
    refuse_batch_dependence,
    sample_counts,
    ungrouped_text,
    warn_if_closed,
    warn_if_few_pixels,
    warn_if_hidden,
    weights_of,
)
from conformask.masker.looks import appearance
from conformask.masker.masker import Masker
from conformask.masker.resolve import Choices, resolve
from conformask.masks.critical import ScoredBatch, calibration_data, lambda_grid, measures
from conformask.masks.family import Family
from conformask.promises.data import Curves
from conformask.promises.promise import AnyPromise
from conformask.promises.rules import Rule
from conformask.records.card import CalibrationCard, now
from conformask.records.geometry import Size, among, extra_text, size_text
from conformask.records.names import Level
from conformask.records.record import Array, Json
from conformask.scores.given import Given
from conformask.scores.scorer import Scorer
from conformask.scores.scoring import check_parts, gathered, parts_folder, scored
from conformask.scores.untrained import Untrained, check_scorer

WHOLE = "whole images"


GRID_FROM = 8
"""Number of calibration images that a grid is made from if there are no selection images."""


def calibrate(
    scorer: Scorer | Untrained | Given,
    images: Triplets,
    *,
    threshold: float | str,
    loss: AnyLoss | None = None,
    promise: AnyPromise = "marginal",
    family: str | Mapping[str, Json] | Family | None = None,
    patches: int | str | None = None,
    level: Level | None = None,
    selection: Triplets | None = None,
    compute: Compute = DEFAULT_DEVICES,
    allow_network_mismatch: bool = False,
) -> Masker:
    """Find the lambda with which masks keep the promise.

    Args:
        scorer: from fit_scorer, packaged_scorer(), Given() for maps of yours, or any Scorer; Tiled(scorer)
            for whole images of any size.
        images: triplets that neither the scorer nor the predictor has seen; they are streamed.
        threshold: the largest loss wanted (the paper's alpha): a number; "5%" of the range (for a share of
            pixels or objects, of them), or "0.5m" where `Reading` has these units, both as in the sentence,
            which gives the root mean square for l2; or "q0.1": the 0.1-quantile of the unmasked loss on the
            selection images.
        loss: what the promise is about: a loss such as `Local("l1", 9)`, or what `conformask.losses.loss`
            takes ("l1", "ssim", a callable); the scorer's if None. Any score keeps any promise; masks are
            smallest with one that was fitted for the loss.
        promise: a `Promise`, or the name of a guarantee.
        family: a name, settings such as {"name": NAME, "epsilon": 1e-2}, or an object; "grey" for masks with
            values between 0 and 1, as up to conformask 0.2. If None, masks are 0 and 1, but for distances
            between masked images and `MaskedWindow`.
        patches: the least size of a connected part of a mask, shown or hidden: a number of pixels or, if
            images have a spacing, an area such as "25mm2" (for volumes "8mm3"). Specks are removed from the
            score, so that the promise is about these masks. If None, parts have any size.
        level: "one" lambda for all images, or for each "image" its own, in proportion to a level that is
            predicted from the image and its score by a fit on the selection images, 20 or more. If None,
            each image has its own where that predicts better, but for Given.
        selection: triplets for the grid and other choices, instead of those that the scorer keeps. For a
            scorer that keeps none, `images.set_aside()` returns images and selection as the command line
            takes them; without any, thresholds such as "q0.1" and some promises are refused, and nothing is
            said of other scores.
        compute: the devices, and a folder for finished parts, from which a killed calibration resumes.
        allow_network_mismatch: calibrate on outputs of another network than the scorer was trained on.

    Raises:
        InvalidArgumentError: an argument outside what is allowed, or something that the guarantee needs and
            that is not there.
        CalibrationError: too few images for the promise; says how many it needs. Where there are enough, but
            too many of them fail under any open mask, all masks are closed, with a warning.
        MismatchError: images that the scorer was not fitted for.
        ImageError: an image that cannot be used, or a region that is empty.

    Examples:
        >>> import numpy as np
        >>> import conformask as cm
        >>> y = np.random.default_rng(0).random((30, 16, 16), dtype=np.float32)
        >>> images = cm.Triplets.from_arrays(y**2, y**1.5, y)
        >>> scorer = cm.Heuristic(cm.residual, channels=1)
        >>> masker = cm.calibrate(scorer, images, threshold=0.05, loss="l1")
        >>> print(masker.sentence)
        In at least 9 of 10 new images, what stays visible is off by at most 5 % of the range, averaged over \
the whole image (hidden pixels count as no error).
    """
    check_scorer(scorer)
    check_parts(compute)
    refuse_others(images, selection)
    choices = resolve(
        scorer, images, threshold, loss, promise, family, patches, level, selection,
        allow_network_mismatch=allow_network_mismatch,
    )  # fmt: skip
    used = choices.loss
    with parts_folder(compute):
        seen = scan(images, "reading calibration images")
        chosen_on = _refuse_unfit(choices, images, seen, selection)
        code = Components(choices.scorer, used, choices.family, choices.weigh)
        probe, fingerprints = code.probe(*probe_shapes(choices.scorer, images[0])), code.fingerprints()
        own_grid = choices.grid is None
        if own_grid:
            choices = replace(choices, grid=_own_grid(choices, images))
        curves, critical = _gathered(choices, images, (fingerprints, seen.contents), compute)
    check_sample_size(choices.promise, choices.threshold, used, len(images), columns_kept(curves))
    warn_if_few_pixels(used, curves.loss[:, -1])
    losses = calibration_data(curves, choices.threshold, used, critical, choices.start)
    rule = choices.promise.rule(losses)
    hidden = hidden_share(curves, rule)
    warn_if_hidden(choices.promise, losses, rule, hidden)
    if hidden < 1:
        warn_if_closed(hidden, used.whole)
    card = _card(choices, images, seen, chosen_on, curves, rule, fingerprints)
    card = replace(card, hides=hidden_by(rule, hidden), hidden=hidden, own_grid=own_grid)
    return Masker(
        choices.scorer, used, choices.family, rule, card, losses.critical_lambdas, curves, choices.weigh,
        seen.perceptual_hashes, probe,
    )  # fmt: skip


def _own_grid(choices: Choices, calibration: Triplets) -> Array:
    """Make a grid from a few calibration images, where there are no selection images.

    The grid does not determine lambda here. For a monotone loss and a promise that deploys an order
    statistic, any lambda below the exact one keeps the promise, so a grid point may also be deployed later.
    """
    some = calibration.select(range(min(len(calibration), GRID_FROM)))
    return lambda_grid(choices.family, choices.loss, list(scored(choices.scorer, some, "grid")))


def _loss_of_closed(loss: Loss, channels: int, size: Size) -> float:
    """Return the loss of an empty image under the closed mask."""
    zeros = torch.zeros(1, channels, *size)
    return float(loss.on(zeros, zeros, torch.ones(1, 1, *size), 1).of(zeros[:, :1]))


def _gathered(
    choices: Choices, calibration: Triplets, made_of: object, compute: Compute
) -> tuple[Curves, Float[np.ndarray, "n"] | None]:
    grid, bounded = cast(Array, choices.grid), choices.promise.own_bounds

    def measure(item: ScoredBatch) -> dict[str, Array]:
        columns = measures(item, choices.family, choices.loss, grid, choices.threshold, bounded=bounded)
        columns |= {"appearance": appearance(item.batch)}
        if choices.weigh is None:
            return columns
        return columns | {"weight": weights_of(choices.weigh, item.batch)}

    key = (
        choices.family.settings(),
        choices.loss.to_json(),
        grid.tolist(),
        choices.threshold,
        bounded,
        "appearance",  # missing in parts written by earlier versions
        made_of,
    )
    columns = gathered(choices.scorer, calibration, measure, "calibrating", key, compute)
    critical = columns.pop("critical_lambda", None)
    curves = Curves.from_arrays(columns | {"grid": grid})
    return labelled(curves, calibration), critical


def _card(
    choices: Choices,
    calibration: Triplets,
    seen: DatasetSummary,
    chosen_on: DatasetSummary | None,
    curves: Curves,
    rule: Rule,
    fingerprints: Mapping[str, str],
) -> CalibrationCard:
    promise, tiles = choices.promise, choices.scorer.tiles
    return CalibrationCard(
        threshold=choices.threshold,
        promise=promise.as_stated,
        claim=promise.claim(choices.loss.name, choices.threshold),
        loss=choices.loss,
        family=choices.family.settings(),
        rule=rule,
        exact=choices.loss.monotone and not promise.on_grid,
        exploratory=False,
        thresholds=declared_thresholds(promise),
        start=choices.start,
        n_calibration=len(calibration),
        **sample_counts(promise, curves),
        weights=None if curves.weight is None else (float(curves.weight.min()), float(curves.weight.max())),
        channels=seen.channels,
        sizes=seen.sizes,
        repeats=calibration.reference.repeats,
        read=calibration.reading,
        geometry=seen.geometry,
        clipped=seen.clipped,
        **_values_of(calibration),
        population=calibration.provenance.population or (tiles and WHOLE),
        calibrated=now(),
        calibrated_on=seen.truth_ids,
        seen=_seen_beside(seen, chosen_on),
        tiles=tiles,
        patches=choices.scorer.patches,
        level="one" if choices.scorer.level_arrays is None else "image",
        network=calibration.network,
        cues_made=calibration.provenance.cues if choices.scorer.cue_channels else None,
        image_errors=choices.image_errors,
        code=fingerprints,
    )


def _seen_beside(seen: DatasetSummary, chosen_on: DatasetSummary | None) -> tuple[str, ...]:
    """Return the hashes of what was seen beside the truths and groups of the calibration images, sorted."""
    chosen = () if chosen_on is None else chosen_on.image_ids
    return tuple(sorted({*seen.image_ids, *chosen} - {*seen.truth_ids}))


def _values_of(calibration: Triplets) -> dict[str, Any]:
    """Return the fields of `Domain` about the values of the first x and y_hat, from their headers."""
    roles: tuple[Role, ...] = ("x", "y_hat")
    inverted = (role for role in roles if calibration.header(0, role).turned_about is not None)
    ranges = {f"range_of_{role}": calibration.range_of(role) for role in roles}
    return {**ranges, "turned": tuple(inverted)}


def _refuse_unfit(
    choices: Choices, calibration: Triplets, seen: DatasetSummary, selection: Triplets | None
) -> DatasetSummary | None:
    """Refuse images that the promise cannot rest on, and a scorer or loss that cannot carry it.

    Returns:
        What was read of the selection images, if any were given.
    """
    choices.loss.check_spacing(seen.geometry)
    refuse_short_reach(choices.loss, seen.references)
    for fault in reference_faults(seen.references):
        raise CalibrationError(f"nothing can be promised by these repeats: {fault}")
    for text in reference_warnings(seen.references):
        warn(text)
    if ungrouped := ungrouped_text(choices.promise, calibration.groups, "calibration "):
        warn(ungrouped)
    chosen_on = None if selection is None else scan(selection, "reading selection images")
    _refuse_used(choices.scorer, calibration, seen, chosen_on)
    refuse_batch_dependence(choices.scorer, choices.loss, choices.weigh, calibration)
    closed = [_loss_of_closed(choices.loss, seen.channels, size) for size in seen.sizes]
    closed_masks_pass(np.array(closed), choices.threshold, choices.loss.name)
    return chosen_on


def _refuse_used(
    scorer: Scorer, calibration: Triplets, seen: DatasetSummary, chosen_on: DatasetSummary | None
) -> None:
    """Refuse images that were used for training or selection or do not fit, and warn of lookalikes."""
    image_ids = scorer.trained_on.union(() if chosen_on is None else chosen_on.image_ids)
    leaked = list(compress(seen.names, used_images(image_ids, calibration, seen.pixels)))
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
        warn(unseen)
    if seen.swapped is not None:
        warn(seen.swapped)
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
