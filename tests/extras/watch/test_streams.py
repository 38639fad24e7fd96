"""Streams: false alarms over a whole stream, by simulation, and how soon a change is seen."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from conformask.extras.watch.monitor import ExchangeabilityMartingale, FailureMartingale, StreamTest
from conformask.records.record import from_dict, to_jsonable
from promised import too_often
from simulation import simulated

LEVEL = 0.05
IMAGES = 400


def peeking(self: ExchangeabilityMartingale, value: float, chance: float) -> None:
    """The bet is chosen after the p-value is seen."""
    before = self.wealth
    ExchangeabilityMartingale.add(self, value, chance)
    best = max(new / old for new, old in zip(self.wealth, before, strict=True))
    self.wealth = [old * best for old in before]


def without_chance(self: ExchangeabilityMartingale, value: float, chance: float) -> None:
    """Equal values all count as smaller."""
    ExchangeabilityMartingale.add(self, value, 0.0)


def peaks(
    draw: Callable[[np.random.Generator, int], np.ndarray],
    add: Callable[[ExchangeabilityMartingale, float, float], None],
    n: int = 60,
    streams: int = 300,
) -> np.ndarray:
    generator, highest = np.random.default_rng(n), np.ones(streams)
    for stream in simulated(streams):
        watched = ExchangeabilityMartingale(sorted(draw(generator, n).tolist()))
        for value, chance in zip(draw(generator, IMAGES).tolist(), generator.random(IMAGES), strict=True):
            add(watched, value, chance)
            highest[stream] = max(highest[stream], watched.value)
    return highest


def normal(generator: np.random.Generator, n: int) -> np.ndarray:
    return generator.normal(size=n)


def tied(generator: np.random.Generator, n: int) -> np.ndarray:
    return generator.integers(0, 3, n).astype(float)


def constant(generator: np.random.Generator, n: int) -> np.ndarray:
    return np.zeros(n)


@pytest.mark.quick(2)
@pytest.mark.parametrize("n", [1, 10, 60])
@pytest.mark.parametrize("draw", [normal, tied, constant])
def test_a_stream_like_its_past_is_rarely_called_shifted(draw: Callable, n: int) -> None:
    assert not too_often(peaks(draw, ExchangeabilityMartingale.add, n) >= 1 / LEVEL, LEVEL)


@pytest.mark.parametrize(("broken", "draw"), [(peeking, normal), (without_chance, constant)])
def test_the_judge_notices_broken_bets(broken: Callable, draw: Callable) -> None:
    assert too_often(peaks(draw, broken, streams=60) >= 1 / LEVEL, LEVEL)


def test_a_shift_of_half_a_standard_deviation_is_seen_soon() -> None:
    generator, delays = np.random.default_rng(0), []
    for _ in simulated(100):
        watched = ExchangeabilityMartingale(sorted(generator.normal(size=400).tolist()))
        values = iter(generator.normal(0.5, size=2000).tolist())
        while watched.value < 100:
            watched.add(next(values), generator.random())
        delays.append(len(watched.past) - 400)
    assert 40 < np.median(delays) < 110


@pytest.mark.quick(1)
@pytest.mark.parametrize("allowed", [0.05, 0.1, 0.5])
def test_failures_as_often_as_allowed_are_rarely_called_too_many(allowed: float) -> None:
    generator, alarms = np.random.default_rng(1), []
    for _ in simulated(400):
        bets, highest = FailureMartingale(allowed), 0.0
        for failed in generator.random(IMAGES) < allowed:
            bets.add(float(failed))
            highest = max(highest, bets.value)
        alarms.append(highest >= 1 / LEVEL)
    assert not too_often(np.array(alarms), LEVEL)


def test_a_rule_that_waits_for_the_right_moment_gains_nothing() -> None:
    """Failures that depend on the past, but never with more than the allowed probability."""
    generator, alarms = np.random.default_rng(2), []
    for _ in simulated(300):
        bets, highest = FailureMartingale(0.1), 0.0
        for _ in range(IMAGES):
            bets.add(float(generator.random() < (0.1 if bets.value < 1 else 0.05)))
            highest = max(highest, bets.value)
        alarms.append(highest >= 1 / LEVEL)
    assert not too_often(np.array(alarms), LEVEL)


def test_twice_as_many_failures_are_seen() -> None:
    generator, seen = np.random.default_rng(3), 0
    for _ in simulated(100):
        bets = FailureMartingale(0.1)
        peak = 0.0
        for failed in generator.random(300) < 0.2:
            bets.add(float(failed))
            peak = max(peak, bets.value)
        seen += peak >= 1 / LEVEL
    assert seen > 90


def test_a_p_value_counts_the_new_value_among_all() -> None:
    """Of 4 values 3 are greater, and half of itself: (3 + 1/2) / 4; of ties as many as chance says."""
    watched = ExchangeabilityMartingale([1.0, 2.0, 3.0])
    watched.add(0.0, 0.5)
    assert watched.wealth == pytest.approx([(1 + rate * (3.5 / 4 - 0.5)) / 3 for rate in (-1, 0, 1)])
    tied = ExchangeabilityMartingale([1.0, 2.0, 2.0, 3.0])
    tied.add(2.0, 0.25)
    assert tied.wealth == pytest.approx([(1 + rate * (1.75 / 5 - 0.5)) / 3 for rate in (-1, 0, 1)])


def test_the_evidence_of_measures_is_their_mean() -> None:
    """The largest of several martingales is none: it would raise more false alarms."""
    measures = {
        name: ExchangeabilityMartingale([], [0.5 * wealth] * 2) for name, wealth in (("a", 1.0), ("b", 7.0))
    }
    assert StreamTest(measures, None).value == 4


def stream() -> StreamTest:
    generator = np.random.default_rng(4)
    return StreamTest(
        {name: ExchangeabilityMartingale(sorted(generator.random(20).tolist())) for name in "ab"},
        FailureMartingale(0.1),
    )


def test_an_image_enters_once() -> None:
    watched, values = stream(), {"a": 0.3, "b": 0.7}
    assert watched.add("first", values, 1.0, (0.5, 0.5))
    before = to_jsonable(watched)
    assert not watched.add("first", values, 1.0, (0.5, 0.5))
    assert to_jsonable(watched) == before
    assert watched.failures is not None
    assert (watched.failures.images, watched.failures.failed) == (1, 1)


def test_state_survives_json_and_goes_on_alike() -> None:
    generator, whole, first = np.random.default_rng(5), stream(), stream()
    for image in range(60):
        values = {"a": float(generator.random()), "b": float(generator.normal())}
        chances, failed = generator.random(2).tolist(), float(generator.random() < 0.3)
        whole.add(f"{image}", values, failed, chances)
        first.add(f"{image}", values, failed, chances)
        first = from_dict(StreamTest, json.loads(json.dumps(to_jsonable(first))), "a stream")
    assert to_jsonable(first) == to_jsonable(whole)
    assert whole.failure_peak > 1
    assert whole.peak >= whole.value
