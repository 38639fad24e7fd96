"""The meaning of a promise, and its limits, in sentences composed from its axes."""

from dataclasses import dataclass

from conformask.conformal.certainty import Marginal
from conformask.conformal.guarantee import Guarantee
from conformask.conformal.statements import Coverage

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
    begins = promise.certainty.begins.format(drawn=population.drawn(promise.unit))
    if promise.delta is not None and population.by_itself:
        begins = _capital(population.by_itself) + begins[0].lower() + begins[1:]
    ends = promise.certainty.ends + population.ends + promise.lam.ends
    holds = begins + _event(promise) + ends + "."
    return Meaning(holds + NO_MODEL, f"Not {_silent(promise)}; {ELSEWHERE}")


def _event(promise: Guarantee) -> str:
    statement, unit = promise.statement, promise.unit
    within = promise.population.within if promise.delta is None else ""
    if not isinstance(statement, Coverage):
        return within + statement.event.format(mean=unit.mean)
    if isinstance(promise.certainty, Marginal) and not within:
        return f"in at least {{c}} of these draws {unit.new} meets the threshold"
    return f"{within}{unit.share_of} meet the threshold"


def _silent(promise: Guarantee) -> str:
    statement, population, sure = promise.statement, promise.population, promise.delta is not None
    at_once = ["for all categories at once"] if sure and population.by_itself else []
    if not isinstance(statement, Coverage):
        return _listed([statement.silent, *at_once])
    this_set = [] if sure else ["for this one calibration set"]
    return f"{{c}} {_listed([*population.each(promise.unit), *this_set, *at_once])}"


def _listed(parts: list[str]) -> str:
    """Join the parts as "a, b or c"."""
    return " or ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
