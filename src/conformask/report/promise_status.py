"""Meaning of a promise in sentences, and how far it can be relied on."""

from dataclasses import dataclass

from conformask.conformal.certainty import Marginal, Simultaneous
from conformask.conformal.guarantee import Guarantee
from conformask.conformal.statements import Coverage
from conformask.records.card import CalibrationCard
from conformask.records.evaluation import Evaluation
from conformask.report.words import hidden_text, percent

NO_MODEL = " No model of the errors is assumed, and the network may be arbitrarily wrong."
ELSEWHERE = "and nothing at all for images of another source, camera or treatment."


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
    if not isinstance(statement, Coverage):
        return _join_alternatives([statement.silent, *at_once])
    this_set = [] if conditional else ["for this one calibration set"]
    return f"{{c}} {_join_alternatives([*population.each(promise.unit), *this_set, *at_once])}"


def _join_alternatives(phrases: list[str]) -> str:
    """Join the parts as "a, b or c"."""
    return " or ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


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
    "As far as this folder knows, the promise was fixed before a calibration image was looked at.",
)
SIMULTANEOUS = PromiseStatus(
    "simultaneous",
    "Simultaneous",
    "One promise for every declared threshold and every confidence at once: it holds wherever they are set, "
    "before or after looking.",
)
EXPLORATORY = PromiseStatus(
    "exploratory",
    "Exploratory",
    "The promise, or the set of images that it rests on, was changed after a calibration on the same "
    "images, so it is exploratory. To rely on it, calibrate on images that no choice has seen or, to "
    "choose another threshold or confidence afterwards, use the guarantee simultaneous.",
)


def broken_status(text: str) -> PromiseStatus:
    """Return the standing of a promise that images with truth contradict."""
    return PromiseStatus("broken", "Broken here", text)


def other_network_status(text: str) -> PromiseStatus:
    """Return the standing of a promise for images that another network made."""
    return PromiseStatus("broken", "Not about these images", f"{text}. Nothing is promised for them.")


EVENLY = " The coverage by difficulty shows how evenly the promise is kept."


def meaning_of(card: CalibrationCard) -> Meaning:
    """Return what the promise says, and what it does not say."""
    share, sentences = card.promise.confidence, meaning(card.promise.resolve())
    confidence = "" if share is None else percent(share)
    silent = sentences.silent.format(c=confidence) + (confidence and EVENLY)
    return Meaning(sentences.holds.format(c=confidence), f"{silent} {card.loss.caveat or ''}".rstrip())


def caveats(evaluation: Evaluation) -> list[str]:
    """Return warnings to read before the promise is relied on, apart from what it does not say."""
    network = evaluation.caveat
    return [
        *([] if network is None else [f"{network.text[0].upper()}{network.text[1:]}."]),
        *([] if evaluation.card.hides is None else [hidden_text(evaluation.card.hides)]),
        *([EXPLORATORY.text] if evaluation.card.exploratory else []),
    ]


def promise_status(card: CalibrationCard) -> PromiseStatus:
    """Return the standing: everything hidden, changed afterwards, covering all settings, or as calibrated."""
    if card.hides is not None:
        return PromiseStatus(
            "hidden",
            "Everything is hidden",
            hidden_text(card.hides),
        )
    if card.exploratory:
        return EXPLORATORY
    return SIMULTANEOUS if isinstance(card.promise.resolve().certainty, Simultaneous) else CALIBRATED
