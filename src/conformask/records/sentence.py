"""The promise of a card in one English sentence, which says exactly what is computed, and its numbers."""

import math
from typing import TYPE_CHECKING

from conformask.promises.promise import Promise
from conformask.records.numbers import written

if TYPE_CHECKING:
    from conformask.records.card import CalibrationCard
    from conformask.records.evaluation import CategoryCoverage

OF = {0.9: "9 of 10", 0.95: "19 of 20", 0.99: "99 of 100"}
"""Shares of images that people count."""
FEW = 0.2
"""Width of the 95 % interval of a share from which the images measured are called few."""


def sentence_of(card: "CalibrationCard") -> str:
    """Return the promise of a card as an English sentence."""
    promise, named = card.promise, card.promise.named
    event, limit_of_mean = card.loss.phrases(card)
    text = beginning_of(promise, card.population)
    text += f", {named(limit_of_mean if promise.axes.statement.bounds_a_mean else event)}"
    if card.hides is not None:
        text += f"; this is kept only by hiding {card.hides} completely"
    return as_sentence(text, exploratory=card.exploratory)


def as_sentence(text: str, *, exploratory: bool) -> str:
    """Return a promise in words as a sentence, which says so where it was chosen after looking."""
    text = f"if this had been fixed beforehand: {text}" if exploratory else text
    return f"{text[0].upper()}{text[1:]}."


def beginning_of(promise: Promise, population: str | None = None) -> str:
    """Return the beginning of a sentence: of how many images, and with which certainty."""
    share = promise.confidence
    beginning = promise.axes.population.by_itself + promise.axes.lam.under + promise.axes.certainty.sure
    if promised_share(promise) is not None:
        beginning += promise.axes.unit.event
    elif share is not None:
        beginning += (
            "for at least {share} new inputs, on average over the truths that an input leaves possible"
        )
    else:
        beginning += promise.axes.unit.average
    whom = population or "new images"
    return promise.named(beginning).format(
        share="" if share is None else OF.get(share, f"{written(100 * share)} % of"),
        certainty=f"{written(100 - 100 * (promise.delta or 0.0))} %",
        whom=whom if whom.startswith("new ") else f"new {whom}",
        origin=promise.axes.population.origin,
    )


def promised_share(promise: Promise) -> float | None:
    """Return the promised share of images within the threshold; None if the promise is about a mean."""
    return None if promise.axes.statement.bounds_a_mean else promise.confidence


def kept_text(
    promise: Promise,
    units: str,
    n: int,
    coverage: float,
    interval: tuple[float, float],
    kept: str = "kept it",
) -> str:
    """Return how many of n units, such as "14 test images", kept a promise, and the 95 % interval."""
    unit = promise.axes.unit
    is_count = unit.is_group or not promise.by_group  # otherwise groups count alike
    share = f"{coverage * n:,.0f}" if is_count else rounded_share(coverage)
    few = "few: " * (interval[1] - interval[0] > FEW)
    return promise.named(f"{share} of {units} {kept}{unit.judged} ({few}{_would(interval)})")


def _would(interval: tuple[float, float]) -> str:
    low, high = map(rounded_share, interval)
    return f"between {low.removesuffix(' %')} and {high} would"


def worst_text(worst: "CategoryCoverage | None", of_means: "CalibrationCard | None" = None) -> str:
    """Return the clause about the category that is judged; empty where the promise is not for each.

    With the card of a promise about means, it says the mean loss.
    """
    if worst is None:
        return ""
    found = f"{rounded_share(worst.coverage)} of {worst.n} ({_would(worst.interval)})"
    if of_means is not None:
        found = f"{of_means.loss.mean_text(worst.mean_loss, of_means.values)} ({worst.n})"
    return f"; in the worst category, {worst.category}, {found}"


def hidden_text(card: "CalibrationCard", hidden: float, best: float | None = None) -> str:
    """Return the mean hidden share of images, and that of the best possible masks, where it is known."""
    whole, are = card.promise.named(card.loss.whole), "are" if card.loss.of_objects else "is"
    known = "" if best is None else f" (best possible: {rounded_share(best)})"
    return f"{rounded_share(hidden)} of {whole} {are} hidden{known}"


def rounded_share(share: float) -> str:
    """Return a measured share in percent, whole unless it is below 5 % or above 99 %."""
    if math.isnan(share):
        return "–"
    return f"{round(100 * share, 1 if share < 0.05 or share > 0.99 else 0):g} %"
