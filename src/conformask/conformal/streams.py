"""Monitoring of a stream at every moment: bets that gain only where a hypothesis is wrong (Ville 1939)."""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from conformask.storage.as_json import Json

RATES = (-1.0, 0.0, 1.0)
"""Betting rates of the simple jumper: on p-values too small, as they should be, and too large."""
JUMP = 0.01
"""The share of wealth redistributed among the rates at each step."""
STAKES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Fractions of the wealth that a bet on failures may lose at most."""


@dataclass
class ExchangeabilityMartingale:
    """A test of exchangeability of new values with the past: the simple jumper, a conformal test martingale.

    If all values are exchangeable, the probability that wealth ever reaches 1 / level is at most level (Vovk,
    Gammerman and Shafer 2005; Vovk 2021).
    """

    past: list[float]
    """Past values, ascending; initially those of the calibration images."""
    wealth: list[float] = field(default_factory=lambda: [1 / len(RATES)] * len(RATES))
    """The wealth of each rate."""

    def add(self, value: float, chance: float) -> None:
        """Bet on the p-value of a new value; chance, uniform in [0, 1), breaks ties."""
        below, through = bisect_left(self.past, value), bisect_right(self.past, value)
        greater, equal = len(self.past) - through, through - below + 1
        # ties broken by chance make p-values uniform, which the bets rely on
        p_value = (greater + chance * equal) / (len(self.past) + 1)
        redistributed = JUMP * sum(self.wealth) / len(RATES)
        self.wealth = [
            ((1 - JUMP) * wealth + redistributed) * (1 + rate * (p_value - 0.5))
            for wealth, rate in zip(self.wealth, RATES, strict=True)
        ]
        insort(self.past, value)

    @property
    def value(self) -> float:
        """The total wealth of all rates; 1 at the start."""
        return sum(self.wealth)


@dataclass
class FailureMartingale:
    """A test of whether more than a share fails: an e-process, a mean of bets on losses in [0, 1].

    If every loss has at most this mean given the past, the probability that wealth ever reaches 1 / level is
    at most level.
    """

    allowed: float
    """The share that may fail, 1 - confidence."""
    wealth: list[float] = field(default_factory=lambda: [1 / len(STAKES)] * len(STAKES))
    """The wealth of each stake."""
    images: int = 0
    failed: float = 0.0

    def add(self, loss: float) -> None:
        """Bet on one more loss: 1 where it failed, 0 where not."""
        self.wealth = [
            wealth * (1 + stake * (loss / self.allowed - 1))
            for wealth, stake in zip(self.wealth, STAKES, strict=True)
        ]
        self.images, self.failed = self.images + 1, self.failed + loss

    @property
    def value(self) -> float:
        """The total wealth of all stakes; 1 at the start."""
        return sum(self.wealth)


@dataclass
class StreamTest:
    """The monitored state of a stream, stored as JSON."""

    measures: dict[str, ExchangeabilityMartingale]
    """Tests of measures that need no truth, by name."""
    failures: FailureMartingale | None
    """The test of failures; None where the promise is about a mean."""
    seen: set[str] = field(default_factory=set)
    """Hashes of the images or groups that have entered: each enters once."""
    judged: set[str] = field(default_factory=set)
    """Hashes of the images or groups whose truth has been known, now or later: each is judged once."""
    peak: float = 1.0
    """The largest mean wealth of the measures so far."""
    failure_peak: float = 1.0
    """The largest wealth of the bets on failures so far."""

    def add(
        self, key: str, values: Mapping[str, float], loss: float | None, chances: Sequence[float]
    ) -> bool:
        """Take in an image that stands for its group; return whether it is new."""
        if loss is not None and self.failures is not None and key not in self.judged:
            self.judged.add(key)
            self.failures.add(loss)
            self.failure_peak = max(self.failure_peak, self.failures.value)
        if key in self.seen:
            return False
        self.seen.add(key)
        for (name, measure), chance in zip(self.measures.items(), chances, strict=True):
            measure.add(values[name], chance)
        self.peak = max(self.peak, self.value)
        return True

    @property
    def value(self) -> float:
        """The mean wealth of the measures: a mean of martingales is a martingale."""
        return math.fsum(measure.value for measure in self.measures.values()) / len(self.measures)

    def to_json(self) -> dict[str, Json]:
        """Return the whole state as JSON."""
        return {
            "measures": {name: vars(measure) for name, measure in self.measures.items()},
            "failures": None if self.failures is None else vars(self.failures),
            "seen": sorted(self.seen),
            "judged": sorted(self.judged),
            "peak": self.peak,
            "failure_peak": self.failure_peak,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "StreamTest":
        """Read the state that to_json wrote."""
        measures = {
            str(name): ExchangeabilityMartingale(
                sorted(map(float, state["past"])), list(map(float, state["wealth"]))
            )
            for name, state in record["measures"].items()
        }
        failure_record, failures = record["failures"], None
        if failure_record is not None:
            bets = list(map(float, failure_record["wealth"]))
            failures = FailureMartingale(
                float(failure_record["allowed"]),
                bets,
                int(failure_record["images"]),
                float(failure_record["failed"]),
            )
        peaks = float(record["peak"]), float(record["failure_peak"])
        return cls(measures, failures, set(record["seen"]), set(record["judged"]), *peaks)
