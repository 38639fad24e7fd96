"""The bound holds on any sequence; nothing is assumed of it."""

import json
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from conformask.errors import InvalidArgumentError
from conformask.extras.watch.online import OnlineLambda
from conformask.records.record import from_dict, to_jsonable

T = 2000
Nature = Callable[[float], float]
"""From the lambda that is about to be deployed to the image's critical lambda."""


def steady(seed: int, shift: float = 1.0) -> Iterator[float]:
    generator = np.random.default_rng(seed)
    while True:
        yield float(shift * generator.lognormal())


def failures(online: OnlineLambda, nature: Nature, images: int = T, delay: int = 0) -> np.ndarray:
    """Whether each image failed; its truth becomes known after the delay."""
    failed, waiting = np.zeros(images, dtype=bool), []
    for place in range(images):
        lam = online.lam
        critical = nature(lam)
        failed[place] = lam > critical
        waiting.append((critical, bool(failed[place])))
        if len(waiting) > delay:
            known, error = waiting.pop(0)
            online.learn(known, failed=error)
    return failed


def drawn(values: Iterator[float]) -> Nature:
    return lambda lam: next(values)


def natures() -> dict[str, Nature]:
    """Fresh ones."""
    moving, times = steady(1), iter(range(10**6))
    flips = np.random.default_rng(5)
    return {
        "steady": drawn(steady(0)),
        "a sudden shift": lambda lam: next(moving) * (1.0 if next(times) < T // 2 else 0.05),
        "drift": lambda lam: next(moving) * 0.999 ** next(times),
        "always just too large": lambda lam: 0.999 * lam,
        "adversary": lambda lam: 0.0 if lam > 0 else math.inf,
        "adversary with luck": lambda lam: 0.0 if flips.random() < 0.3 else math.inf,
        "hopeless": lambda lam: 0.0,
        "nothing ever fails": lambda lam: math.inf,
        "ties": lambda lam: float(flips.integers(3)),
    }


CALIBRATION = np.random.default_rng(9).lognormal(size=200).tolist()


@pytest.mark.parametrize("eta", [0.005, 0.05, 0.5])
@pytest.mark.parametrize("name", natures())
@pytest.mark.parametrize("past", [[], CALIBRATION], ids=["from nothing", "calibrated"])
def test_the_bound_holds_on_any_sequence(name: str, eta: float, past: list[float]) -> None:
    online = OnlineLambda(0.9, eta, past=list(past))
    failed = failures(online, natures()[name])
    for images in (1, 10, 100, T):
        assert failed[:images].mean() <= OnlineLambda(0.9, eta).bound(images) + 1e-12


@pytest.mark.parametrize("delay", [1, 20, 200])
@pytest.mark.parametrize("name", natures())
def test_the_bound_is_wider_by_the_delay(name: str, delay: int) -> None:
    online = OnlineLambda(0.9, past=list(CALIBRATION))
    failed = failures(online, natures()[name], delay=delay)
    assert failed.mean() <= online.bound(T) + 0.9 * delay / T + 1e-12


def test_another_start() -> None:
    for gamma in (0.0, 0.5, 1.0):
        online = OnlineLambda(0.9, gamma=gamma, past=list(CALIBRATION))
        failed = failures(online, natures()["adversary"])
        assert failed.mean() <= online.bound(T, start=gamma) + 1e-12
    assert OnlineLambda(0.9).bound(T, start=1.0) > OnlineLambda(0.9).bound(T)


def test_the_judge_notices_a_learner_that_does_not_move() -> None:
    class Stubborn(OnlineLambda):
        def learn(self, critical_lambda: float, *, failed: bool) -> None:
            pass

    failed = failures(Stubborn(0.9, past=list(CALIBRATION)), natures()["a sudden shift"])
    assert failed.mean() > OnlineLambda(0.9).bound(T)


def test_the_judge_notices_a_gamma_that_is_floored_above_0() -> None:
    class Floored(OnlineLambda):
        def learn(self, critical_lambda: float, *, failed: bool) -> None:
            super().learn(critical_lambda, failed=failed)
            self.gamma = max(self.level, 0.01)

    failed = failures(Floored(0.9, past=list(CALIBRATION)), natures()["always just too large"])
    assert failed.mean() > OnlineLambda(0.9).bound(T)


def test_on_a_steady_stream_it_is_tight() -> None:
    failed = failures(OnlineLambda(0.9, 0.02, past=list(CALIBRATION)), natures()["steady"], 6000)
    assert failed[1000:].mean() == pytest.approx(0.1, abs=0.01)


def recovery(online: OnlineLambda, easy: int = 1500) -> int:
    """How many images after a shift until gamma is at most 1 - confidence again."""
    failures(online, lambda lam: math.inf, easy)
    for image in range(10_000):
        if online.level <= 0.1:
            return image
        online.learn(0.0, failed=online.lam > 0)
    raise AssertionError("never")


def test_a_capped_gamma_recovers_at_once_and_an_uncapped_one_does_not() -> None:
    class Uncapped(OnlineLambda):
        def learn(self, critical_lambda: float, *, failed: bool) -> None:
            self.gamma = self.level + self.eta * (1 - self.confidence - failed)
            self.past.append(critical_lambda)
            self.past.sort()

    assert recovery(OnlineLambda(0.9, past=list(CALIBRATION))) <= 0.9 / (0.05 * 0.9) + 2
    assert recovery(Uncapped(0.9, past=list(CALIBRATION))) > 100


def test_lambda_is_the_gamma_quantile() -> None:
    past = [5.0, 1.0, 4.0, 2.0, 3.0]
    for gamma, lam in ((-0.1, 0), (0.0, 0), (1e-6, 1), (0.2, 1), (0.2001, 2), (0.6, 3), (1.0, 5), (1.04, 5)):
        assert OnlineLambda(0.9, gamma=gamma, past=past).lam == lam
    assert OnlineLambda(0.9).lam == 0
    assert OnlineLambda(0.7, past=list(range(1, 11))).lam == 3, "(1 - .7) 10 > 3 in floats"
    assert past == [5.0, 1.0, 4.0, 2.0, 3.0]


def test_json_and_back_in_the_middle_of_a_stream() -> None:
    values = steady(3)
    online = OnlineLambda(0.9, past=[*CALIBRATION, math.inf, 0.0])
    failures(online, drawn(values), 50)
    again = from_dict(OnlineLambda, json.loads(json.dumps(to_jsonable(online), allow_nan=False)), "a state")
    assert again == online
    future = [next(values) for _ in range(100)]
    assert (
        failures(online, drawn(iter(future)), 100).tolist()
        == failures(again, drawn(iter(future)), 100).tolist()
    )
    assert again == online


@pytest.mark.parametrize("arguments", [{"confidence": 1.0}, {"confidence": 0.9, "eta": 0.0}])
def test_what_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(InvalidArgumentError, match="between 0 and 1"):
        OnlineLambda(**arguments)
