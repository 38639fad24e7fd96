"""Sliders of a viewer: their limits, and at a setting the promise, and what is measured of an image."""

from bisect import bisect_left
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from conformask.arrays import Array, Batch, window_index
from conformask.errors import ConformaskError, InvalidArgumentError
from conformask.extras.view.viewed_image import ViewedImage
from conformask.masker.checks import has_theorem
from conformask.masker.masker import Masker
from conformask.masker.measure import SHARES, risk_curves
from conformask.masker.whole import ScoredImage, add_depth, level_of, masks_of
from conformask.masks.critical import unmasked_loss
from conformask.masks.family import Family
from conformask.promises.axes import Simultaneous
from conformask.promises.rules import ConstantLambda
from conformask.records.card import CalibrationCard
from conformask.records.extent import REGION
from conformask.records.numbers import figure, percent
from conformask.records.record import Json
from conformask.records.words import (
    EXPLORATORY_TEXT,
    about_masks,
    all_hidden_text,
    comparison_text,
    meaning_of,
    useless_text,
)

LEAST_CONFIDENCE, STEPS = 0.5, 1000
BELOW, ABOVE = 0.02, 0.99
"""Quantiles of the losses without a mask, as ends of the threshold slider."""
ROOM = 10.0
"""Factor below the lower quantile at which the slider starts: masks there are nearly closed."""


@dataclass(frozen=True)
class PromiseStatus:
    """Degree to which a promise can be relied on."""

    name: str
    """Class of the style sheet: calibrated, simultaneous, exploratory, hidden, impossible or broken."""
    title: str
    text: str


CALIBRATED = PromiseStatus(
    "calibrated",
    "As calibrated",
    "As far as conformask knows, the promise was fixed before a calibration image was looked at.",
)
SIMULTANEOUS = PromiseStatus(
    "simultaneous",
    "Simultaneous",
    "One promise for every declared threshold and every confidence at once: it holds wherever they are set, "
    "before or after looking.",
)
EXPLORATORY = PromiseStatus("exploratory", "Exploratory", EXPLORATORY_TEXT)


def promise_status(card: CalibrationCard) -> PromiseStatus:
    """Return the standing: everything hidden, changed afterwards, covering all settings, or as calibrated."""
    if card.hides is not None:
        return PromiseStatus("hidden", "Everything is hidden", all_hidden_text(card.hides))
    if card.exploratory:
        return EXPLORATORY
    status = SIMULTANEOUS if isinstance(card.promise.axes.certainty, Simultaneous) else CALIBRATED
    return replace(status, text=" ".join(filter(None, [card.choice_text, status.text])))


@dataclass(frozen=True)
class SliderSetting:
    """A position of the sliders; None stands for the calibrated value."""

    threshold: float | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class SliderLimits:
    """The limits of the sliders."""

    threshold: tuple[float, float]
    confidence: tuple[float, float] | None
    """Limits of the confidence slider; None where the promise is about a mean."""
    stuck: str | None
    """The reason why the sliders cannot be moved; None where they can."""


@dataclass(frozen=True)
class SliderState:
    """The promise at a setting; without sentences where none is possible or the images contradict it."""

    threshold: float
    """The threshold in use: a simultaneous promise takes the declared one at or below the slider."""
    confidence: float | None
    threshold_text: str
    """The threshold in words."""
    status: PromiseStatus
    sentence: str | None = None
    formula: str | None = None
    """The promise as a formula."""
    holds: str | None = None
    silent: str | None = None
    about_masks: str | None = None
    """A caveat on masks of this loss: errors that they need not cover."""
    loss: str | None = None
    """The loss in the formula, as a formula."""
    score: str | None = None
    """How much the masks of the score hide beside others, on its selection images."""
    useless: str | None = None
    """That the score is no better than one value everywhere, where it is not."""


def recalibrated_at(
    masker: Masker, setting: SliderSetting, doubt: PromiseStatus | None = None
) -> tuple[Masker, SliderState]:
    """Return the masker itself as calibrated, otherwise recalibrated; closed where no promise is possible.

    `doubt` is the evidence of the images shown against every promise.
    """
    card = masker.card
    same = setting.threshold in (None, card.threshold)
    if same and setting.confidence in (None, card.promise.confidence):
        return masker, _promised(masker, doubt)
    try:
        moved = masker.recalibrate(threshold=setting.threshold, confidence=setting.confidence)
    except ConformaskError as error:
        threshold = card.threshold if setting.threshold is None else setting.threshold
        state = SliderState(
            threshold=threshold,
            threshold_text=card.loss.words.limit(threshold, card.values),
            confidence=card.promise.confidence if setting.confidence is None else setting.confidence,
            status=PromiseStatus("impossible", "No promise here", f"{error}. Everything is masked."),
        )
        return replace(masker, rule=ConstantLambda(0.0), card=replace(card, threshold=threshold)), state
    return moved, _promised(moved, doubt)


def _promised(masker: Masker, doubt: PromiseStatus | None) -> SliderState:
    card, meaning, comparison = masker.card, meaning_of(masker.card), masker.comparison
    state = SliderState(
        threshold=card.threshold,
        confidence=card.promise.confidence,
        threshold_text=card.loss.words.limit(card.threshold, card.values),
        status=doubt or promise_status(card),
        formula=card.formula,
        loss=card.loss.words.formula,
        score=None if comparison is None else comparison_text(comparison),
        useless=None if comparison is None else useless_text(comparison),
    )
    if doubt is not None:
        return state
    about, said = about_masks(card) or None, vars(meaning)
    return replace(state, sentence=card.sentence, about_masks=about, **said)


def sliders(masker: Masker) -> SliderLimits:
    """Return limits from nearly closed masks to hardly any, and up to the highest possible confidence."""
    card = masker.card
    fixed = None if card.promise.confidence is None else (card.promise.confidence, card.promise.confidence)
    try:
        unmasked = masker.stored_curves().loss[:, -1]
    except ConformaskError as error:
        return SliderLimits((card.threshold, card.threshold), fixed, str(error))
    if card.thresholds:
        low, high = card.thresholds[0], card.thresholds[-1]
    else:
        low, high = np.quantile(unmasked, [BELOW, ABOVE]).tolist()
        low, high = min(card.threshold, low or card.threshold) / ROOM, max(card.threshold, high)
    return SliderLimits((low, high), None if fixed is None else _confidences(masker, high), None)


def _confidences(masker: Masker, threshold: float) -> tuple[float, float]:
    """Return 0.5 and the highest confidence that the calibration images support at a generous threshold."""

    def is_refused(confidence: float) -> bool:
        try:
            moved = masker.recalibrate(threshold=threshold, confidence=confidence)
        except ConformaskError:
            return True
        return moved.card.hides is not None

    n = masker.card.n_units
    least, most = round(LEAST_CONFIDENCE * STEPS), round(STEPS * n / (n + 1))
    tried = [step / STEPS for step in range(least, most + 1)]
    refused = bisect_left(tried, True, key=is_refused)
    calibrated = masker.card.promise.confidence or LEAST_CONFIDENCE
    highest = tried[refused - 1] if refused else calibrated
    return min(LEAST_CONFIDENCE, calibrated), max(highest, calibrated)


def bound_text(masker: Masker, item: Batch) -> str | None:
    """Say how far an output differs from its truth at most, and for which share of images that holds."""
    rule, bounds = masker.image_bound, masker.bounds_of(item)
    if bounds is None or rule is None:
        return None
    return f"at most {figure(float(bounds[0]))}, for {percent(rule.confidence)} of images"


@dataclass(frozen=True)
class ImageLosses:
    """Loss of an image, and whether it is within the threshold."""

    loss: float
    """Loss under the mask."""
    unmasked: float
    met: bool


def is_measurable(masker: Masker, image: ViewedImage) -> bool:
    """Return whether the loss of an image is computed; for images in files only an lp distance, by blocks."""
    if "truth" not in image.sources or (masker.card.loss.extent == REGION and "region" not in image.sources):
        return False
    if not has_theorem(masker.card.promise, masker.loss, image.reference):
        return False
    return image.in_memory or _exponent(masker) is not None


def risk_of(image: ViewedImage) -> dict[str, Json] | None:
    """Return the error that is left at hidden shares, by the score and at best; None if it is not known."""
    item = image.item
    if not image.in_memory or item.y is None:
        return None
    curves = risk_curves(item.score.map, item.y, item.y_hat, item.layers.get("region"))
    by_score, best = curves[0].tolist()
    return {"shares": SHARES, "by_score": by_score, "best": best}


def losses_of(masker: Masker, image: ViewedImage) -> ImageLosses:
    """Return the loss of an image, masked and unmasked."""
    if image.in_memory:
        masked, unmasked = loss_of(masker, image), float(unmasked_loss(masker.loss, image.item)[0])
    else:
        masked, unmasked = _measure_by_blocks(masker, image)
    return ImageLosses(masked, unmasked, met=bool(masker.within(np.array(masked))))


def loss_of(masker: Masker, image: ViewedImage) -> float:
    """Return the loss of an image with truth under its mask."""
    loss = masker.judge(image.item).loss if image.in_memory else None
    return _measure_by_blocks(masker, image)[0] if loss is None else float(loss[0])


def _exponent(masker: Masker) -> float | None:
    """Return p if the loss of an image, or of its region, is summed over blocks; else None."""
    return masker.loss.in_regions(False).traits.block_exponent


def _measure_by_blocks(masker: Masker, image: ViewedImage) -> tuple[float, float]:
    exponent = _exponent(masker)
    if exponent is None:
        raise InvalidArgumentError(
            "the loss of an image that is too large for memory is computed for lp distances only"
        )
    y, y_hat, region = image.sources["truth"], image.sources["output"], image.sources.get("region")
    masked = unmasked = values = 0.0
    for window, mask in masks_of(masker.family, image.item.score.map, level_of(masker, image.item)[1]):
        error = np.abs(y.read(add_depth(window)).astype(np.float64) - y_hat.read(add_depth(window)))
        inside = np.ones_like(error) if region is None else region.read(add_depth(window))
        masked += float((inside * (error * mask.cpu().numpy()) ** exponent).sum())
        unmasked += float((inside * error**exponent).sum())
        values += len(error) * float(inside[:1].sum(dtype=np.float64))
    return masked / values, unmasked / values


@dataclass(frozen=True)
class MaskLevel:
    """Mask of an image at one lambda: its level and its size."""

    lam: float
    level: tuple[float, ...]
    """Level, as the family's apply takes it."""
    size: float
    """Mask size, mean(1 - m), in the region that the promise is about."""


def mask_level(masker: Masker, image: ScoredImage) -> MaskLevel:
    """Return lambda, level and mask size that the masker gives an image."""
    lam, level = level_of(masker, image.item)
    return MaskLevel(lam, tuple(level[0].tolist()), mask_size_of(masker.family, image, level))


def mask_size_of(family: Family, image: ScoredImage, level: Tensor) -> float:
    """Return mean(1 - m) in the region that the promise is about, computed block by block."""
    return mask_size_by_planes(image, trusted_shares(family, image, level)[0])


def mask_size_by_planes(image: ScoredImage, trusted: Array) -> float:
    """Return mean(1 - m) in the region that the promise is about, from the shown shares along one axis."""
    return float(1 - trusted.mean()) / image.region_share


def trusted_shares(family: Family, image: ScoredImage, level: Tensor) -> tuple[Array, Array, Array]:
    """Return the mean of the mask in each plane across z, y and x, by blocks; outside a region it is 1."""
    z, y, x = (np.zeros(side) for side in image.deep)
    score, region = image.item.score.map, image.item.layers.get("region")
    for window, mask in masks_of(family, score, level):
        if region is not None:
            mask = 1 - region[window_index(window)].reshape(1, *mask.shape[1:]) * (1 - mask)
        for axis, (sums, places) in enumerate(zip((z, y, x), add_depth(window), strict=True), start=1):
            other_axes = tuple(other for other in range(4) if other != axis)
            sums[places] += mask.sum(dim=other_axes, dtype=torch.float64).cpu().numpy()
    values = score.numel()
    return z * len(z) / values, y * len(y) / values, x * len(x) / values
