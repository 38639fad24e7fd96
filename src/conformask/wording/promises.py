"""Promises in sentences: what one says, what it leaves open, and whether it is about given images."""

from dataclasses import dataclass

from conformask.conformal.certainty import Marginal
from conformask.conformal.guarantee import Guarantee
from conformask.conformal.statements import Coverage
from conformask.conformal.units import Group
from conformask.records.card import CalibrationCard
from conformask.records.network import Caveat, Network
from conformask.wording.numbers import percent

NO_MODEL = " No model of the errors is assumed, and the network may be arbitrarily wrong."
ELSEWHERE = "and nothing at all for images of another source, camera or treatment."
EXPLORATORY_TEXT = (
    "The promise, or the set of images that it rests on, was changed after a calibration on the same "
    "images, so it is exploratory. To rely on it, calibrate on images that no choice has seen or, to "
    "choose another threshold or confidence afterwards, use the guarantee simultaneous."
)
CHOSEN_ON_CALIBRATION = (
    "A threshold that is chosen on these images, which calibrated the masks, is exploratory: to rely on it, "
    "calibrate with it on images that no choice has seen."
)
GREY_TEXT = (
    "The masks are grey: an error counts by the mask value of its pixel. A value of 0.4 is neither a "
    "probability nor a size of the error, and nothing is promised for masks that are cut at a value."
)


@dataclass(frozen=True)
class Meaning:
    """Two sentences on a promise; {c} stands for the confidence."""

    holds: str
    """The event that is promised."""
    silent: str
    """The events that are not promised."""


def meaning(promise: Guarantee) -> Meaning:
    """Return sentences on what a promise covers and what it leaves open."""
    population = promise.population
    beginning = promise.certainty.begins.format(drawn=population.drawn(promise.unit))
    if promise.delta is not None and population.by_itself:
        beginning = _capital(population.by_itself) + beginning[0].lower() + beginning[1:]
    ending = promise.certainty.ends + population.ends + promise.lam.ends
    holds = beginning + _event_text(promise) + ending + "."
    return Meaning(holds + NO_MODEL, f"Not {_unpromised_text(promise)}; {ELSEWHERE}")


def _event_text(promise: Guarantee) -> str:
    statement, unit = promise.statement, promise.unit
    within = promise.population.within if promise.delta is None else ""
    if not isinstance(statement, Coverage):
        return within + statement.event.format(mean=unit.mean)
    if isinstance(promise.certainty, Marginal) and not within:
        return f"in at least {{c}} of these draws {unit.new} meets the threshold"
    return f"{within}{unit.share_of} meet the threshold"


def _unpromised_text(promise: Guarantee) -> str:
    statement, population, conditional = promise.statement, promise.population, promise.delta is not None
    at_once = ["for all categories at once"] if conditional and population.by_itself else []
    this_set = [] if conditional else ["for this one calibration set"]
    if not isinstance(statement, Coverage):
        return _join_alternatives([statement.silent, *this_set, *at_once])
    return f"{{c}} {_join_alternatives([*population.each(promise.unit), *this_set, *at_once])}"


def _join_alternatives(phrases: list[str]) -> str:
    """Join the parts as "a, b or c"."""
    return " or ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def meaning_of(card: CalibrationCard) -> Meaning:
    """Return what the promise says, and what it does not say."""
    share, sentences = card.promise.confidence, meaning(card.promise.resolve())
    confidence = "" if share is None else percent(share)
    silent = sentences.silent.format(c=confidence)
    named = card.promise.named
    return Meaning(
        named(sentences.holds.format(c=confidence)), f"{named(silent)} {about_masks(card)}".rstrip()
    )


def about_masks(card: CalibrationCard) -> str:
    """Return what readers of the masks may take for granted and must not; empty if there is nothing."""
    knew_truth = card.loss.subtracts_noise and not card.reference.is_noisy
    of_loss = None if knew_truth else card.loss.caveat
    of_parts = None if card.patches is None else f"The masks consist of {card.parts}, shown or hidden."
    grey = GREY_TEXT if card.is_grey else None
    return card.promise.named(" ".join(filter(None, (of_parts, grey, of_loss, _about_noise(card)))))


def _about_noise(card: CalibrationCard) -> str | None:
    """Return what a promise by noisy references takes for granted; None if y was the truth."""
    reference = card.reference
    if not reference.is_noisy:
        return None
    if not card.loss.subtracts_noise:
        return (
            f"The calibration images have {reference.text} in the place of a truth. Where the noise has mean "
            "0 and is independent of the input, the loss to it is on average at least that to the clean "
            "image, for which the promise then holds too."
        )
    if reference.repeats == 2:
        return "The noise of one repeat must be independent of that of the other."
    return (
        "The noise model is assumed, not measured: if it says too much noise, more is subtracted than there "
        "is, and the promise does not hold."
    )


def all_hidden_text(hides: str) -> str:
    """Return the text for masks that hide everything because nothing less keeps the promise."""
    return (
        f"Only hiding {hides} completely keeps this promise: that it is kept says nothing about the network."
    )


def promised_here(promise: str, caveat: Caveat | None) -> str:
    """Return the promise, or a note that there is none for images that another network made."""
    if caveat is None or not caveat.other:
        return promise
    return f"NOT PROMISED: {caveat.text}. Nothing is promised for them."


def formula_here(formula: str, caveat: Caveat | None) -> list[str]:
    """Return the promise as a formula, as the last line; none for images that another network made."""
    return [] if caveat is not None and caveat.other else [formula]


def release_promise(
    card: CalibrationCard, share: float, caveat: Caveat | None = None, *, each: bool = False
) -> tuple[str, str]:
    """Return what is promised of the images released, as a condition if it was chosen after looking.

    Returns:
        a sentence, and a formula: empty where nothing is promised, for images that another network made.
    """
    unit, misses = card.promise.resolve().unit, "miss the threshold"
    if isinstance(unit, Group):
        misses = (
            f"do not keep the threshold on {unit.images}" if unit.share < 1 else f"{misses} on some image"
        )
    drawn = f"in expectation over calibration {unit.plural} and new {unit.plural}"
    text = f"Of the {unit.plural} released under their masks, at most {percent(share)} {misses}, {drawn}."
    failure = f"{unit.statistic_of(card.loss.name)} > {card.threshold:.4g}"
    left = f"E[#{{released, {failure}}} / max(1, #released)]"
    if each:
        text = f"Of all new {unit.plural}, at most {percent(share)} are released and {misses}, {drawn}."
        left = f"P(released, {failure})"
    text = f"If this had been fixed beforehand: o{text[1:]}" if card.exploratory else text
    if card.loss.subtracts_noise and card.reference.is_noisy:
        more = f"{'about' if card.loss.allowance == 'clt' else 'at most'} {percent(card.loss.eta or 0.0)}"
        text += f" The noise of the references adds {more} of all new {unit.plural} to those that {misses}."
    sentence = promised_here(card.promise.named(text), caveat)
    is_other = caveat is not None and caveat.other
    return sentence, "" if is_other else card.promise.named(f"{left} <= {share:g}")


def network_label(network: Network | None) -> str:
    """Return the network's name and the start of its fingerprint."""
    if network is None:
        return "unknown"
    return network.name + ("" if network.fingerprint is None else f" ({network.fingerprint[:8]})")
