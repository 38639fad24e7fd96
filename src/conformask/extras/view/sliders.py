"""Sliders of a viewer: their limits, the promise at a setting, and how far it can be relied on."""

from bisect import bisect_left
from dataclasses import dataclass, replace

import numpy as np

from conformask.arrays import Batch
from conformask.errors import ConformaskError
from conformask.masker.masker import Masker
from conformask.promises.axes import Simultaneous
from conformask.promises.rules import ConstantLambda
from conformask.records.card import CalibrationCard
from conformask.records.numbers import figure, percent
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
    return SIMULTANEOUS if isinstance(card.promise.axes.certainty, Simultaneous) else CALIBRATED


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
            threshold_text=card.loss.limit(threshold, card.values),
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
        threshold_text=card.loss.limit(card.threshold, card.values),
        status=doubt or promise_status(card),
        formula=card.formula,
        loss=card.loss.formula,
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
