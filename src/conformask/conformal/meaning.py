"""What a promise means, and what it does not, in sentences put together from its axes."""

from dataclasses import dataclass

from conformask.conformal.certainty import OnAverage
from conformask.conformal.populations import EachCategory
from conformask.conformal.promise import Promise
from conformask.conformal.statements import Rate

NO_MODEL = " No model of the errors is assumed, and the network may be arbitrarily wrong."
ELSEWHERE = "and nothing at all for images of another source, camera or treatment."


@dataclass(frozen=True)
class Meaning:
    """Two answers; {c} stands for the confidence."""

    holds: str
    """What is promised."""
    silent: str
    """What is not."""


def meaning(promise: Promise) -> Meaning:
    """What it holds, and what it is silent about."""
    drawn = promise.population.drawn(promise.unit)
    ends = promise.certainty.ends + promise.population.ends + promise.lam.ends
    holds = promise.certainty.begins.format(drawn=drawn) + _event(promise) + ends + "."
    return Meaning(holds + NO_MODEL, f"Not {_silent(promise)}; {ELSEWHERE}")


def _event(promise: Promise) -> str:
    statement, population = promise.statement, promise.population
    if not isinstance(statement, Rate):
        return statement.event.format(mean=promise.unit.mean)
    if isinstance(promise.certainty, OnAverage) and not isinstance(population, EachCategory):
        return f"in at least {{c}} of these draws {promise.unit.new} meets the threshold"
    return f"{population.share_of(promise.unit)} meet the threshold"


def _silent(promise: Promise) -> str:
    statement = promise.statement
    if not isinstance(statement, Rate):
        return statement.silent
    whom = [*promise.population.each(promise.unit)]
    whom += ["for this one calibration set"] if isinstance(promise.certainty, OnAverage) else []
    return f"{{c}} {', '.join(whom[:-1])}, or {whom[-1]}"
