"""The paper's condition (3): P(E[d | x] <= threshold) >= confidence, where E[d | x] is known."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from conformask.promises.axes import tail_risk
from conformask.promises.data import CalibrationData, Curves
from conformask.promises.promise import Promise
from conformask.promises.rules import ConstantLambda, ImageCovariates
from promised import CONFIDENCE, Deploy, falls_short
from simulation import simulated
from worlds import THRESHOLD

GRID = np.array([0.0, *np.geomspace(0.01, 20, 40), math.inf])


@dataclass(frozen=True)
class Truths:
    """Inputs x with many possible truths y each."""

    distance: np.ndarray
    """(X, R, G)"""

    @property
    def conditional(self) -> np.ndarray:
        """(X, G): E[d | x]."""
        return self.distance.mean(axis=1)

    @property
    def bound(self) -> np.ndarray:
        """(X, G): the largest possible distance of x."""
        return np.minimum(1, self.distance.max(axis=1) * 1.2)

    def draw(self, generator: np.random.Generator, n: int) -> tuple[np.ndarray, CalibrationData]:
        x, r = (generator.integers(size, size=n) for size in self.distance.shape[:2])
        distance = self.distance[x, r]
        failing = distance > THRESHOLD
        first = np.where(failing.any(axis=1), failing.argmax(axis=1), len(GRID)) - 1
        curves = Curves(np.full(n, "image"), GRID, distance, distance)
        return x, CalibrationData(THRESHOLD, GRID[first], curves, 1.0)


def two_points() -> Truths:
    """d = .02 lam w.p. .92 and lam w.p. .08, whatever x is."""
    slope = np.repeat([0.02, 1.0], [92, 8])
    return Truths(np.minimum(1, slope[None, :, None] * GRID))


def heavy_tailed() -> Truths:
    """Some x are harder than others, and the truth may be anything."""
    generator = np.random.default_rng(0)
    hard = np.exp(0.7 * generator.normal(size=(150, 1)))
    disaster = generator.random((150, 100)) < 0.07
    slope = hard * np.where(disaster, 0.8 * generator.random((150, 100)) ** (-1 / 1.3), 0.02)
    return Truths(np.minimum(1, slope[..., None] * GRID))


def jumps() -> Truths:
    """Flat curves: nothing up to a jump, whose place depends on x and whose height on the truth."""
    generator = np.random.default_rng(1)
    place = generator.choice([3, 8, 15, 20], size=(150, 1, 1))
    height = generator.choice([0.0, 0.05, 1.0], p=[0.5, 0.4, 0.1], size=(150, 100, 1))
    return Truths(np.where(np.arange(len(GRID)) > place, height, 0.0))


WORLDS: dict[str, Callable[[], Truths]] = {
    "two_points": two_points,
    "heavy_tailed": heavy_tailed,
    "jumps": jumps,
}


def kept(world: Truths, deploy: Deploy, n: int, draws: int, own_bound: bool = False) -> np.ndarray:
    """For each calibration set the share of x with E[d | x] <= threshold at their lambdas."""
    generator, found = np.random.default_rng(n), np.empty(draws)
    conditional, bound = world.conditional, world.bound
    everywhere = np.arange(len(conditional))
    for place in simulated(draws):
        _, evidence = world.draw(generator, n)
        rule = deploy(replace(evidence, own_bound=own_bound))
        lam = rule(ImageCovariates(len(everywhere), bound_curve=bound))
        found[place] = (conditional[everywhere, np.searchsorted(GRID, lam)] <= THRESHOLD * (1 + 1e-6)).mean()
    return found


def fixed(world: Truths, n: int, own_bound: bool = False) -> Promise:
    """t chosen on a draw of its own."""
    _, selection = world.draw(np.random.default_rng(77), 200)
    chosen = Promise("conditional_mean", CONFIDENCE).fit_on_selection(
        replace(selection, own_bound=own_bound), n
    )
    assert 0 <= chosen.axes.statement.t < THRESHOLD
    return chosen


@pytest.mark.quick(8)
@pytest.mark.parametrize("n", [5, 99, 150, 400, 1000])
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("own_bound", [False, True])
def test_condition_3_is_kept(world: str, n: int, own_bound: bool) -> None:
    truths = WORLDS[world]()
    rule = fixed(truths, n, own_bound).rule
    values = kept(truths, rule, n, 200 if n == 1000 else 400, own_bound)
    assert not falls_short(values, CONFIDENCE)


@pytest.mark.parametrize("n", [150, 1000])
@pytest.mark.parametrize("world", WORLDS)
def test_any_t_below_the_threshold_will_do(world: str, n: int) -> None:
    truths = WORLDS[world]()
    for t in (0.0, 0.04, 0.09):
        assert not falls_short(
            kept(truths, Promise("conditional_mean", CONFIDENCE, t=t).rule, n, 100), CONFIDENCE
        )


def test_marginal_violates_it_in_most_runs() -> None:
    values = kept(two_points(), Promise("marginal", CONFIDENCE).rule, 1000, 400)
    assert np.mean(values < 0.5) > 0.5
    assert falls_short(values, CONFIDENCE)
    right = kept(two_points(), fixed(two_points(), 1000).rule, 1000, 400)
    assert not falls_short(right, CONFIDENCE)


def chosen_after_looking(evidence: CalibrationData) -> ConstantLambda:
    """No bound, and the t that opens most on the calibration images themselves."""
    means = [tail_risk(evidence.risk(), t, 10.0).mean(axis=0) for t in np.linspace(0, THRESHOLD, 40)]
    return ConstantLambda(float(max(GRID[np.flatnonzero(m <= THRESHOLD).max()] for m in means)))


@pytest.mark.parametrize(
    ("broken", "world", "n"),
    [
        (Promise("marginal", CONFIDENCE).rule, "heavy_tailed", 400),
        (Promise("expected").rule, "two_points", 400),
        (Promise("expected").rule, "heavy_tailed", 400),
        (Promise("conditional_mean", 0.1).rule, "heavy_tailed", 400),
        (chosen_after_looking, "jumps", 9),
    ],
    ids=["marginal", "a mean over x, two points", "a mean over x", "less steep", "no bound, t afterwards"],
)
def test_the_judge_notices_weaker_promises(broken: Deploy, world: str, n: int) -> None:
    truths = WORLDS[world]()
    assert falls_short(kept(truths, broken, n, 400), CONFIDENCE)


def test_masks_are_not_simply_closed() -> None:
    for world in WORLDS.values():
        truths = world()
        _, evidence = truths.draw(np.random.default_rng(3), 1000)
        assert fixed(truths, 1000).rule(evidence).lam > 0
        own = fixed(truths, 1000, own_bound=True).rule(replace(evidence, own_bound=True))
        assert own(ImageCovariates(len(truths.bound), bound_curve=truths.bound)).mean() > 0


def test_it_is_risk_control_of_the_tail_risk() -> None:
    t, steepness = 0.05, 10.0
    risk = np.array([0.0, 0.05, 0.06, 1.0])
    np.testing.assert_allclose(tail_risk(risk, t, steepness), [0.05, 0.05, 0.15, 9.55])
    _, evidence = two_points().draw(np.random.default_rng(0), 500)
    tails = tail_risk(
        evidence.risk(), t, Promise("conditional_mean", CONFIDENCE, t=t).axes.statement.steepness
    )
    curves = replace(evidence.curves, loss=tails)
    wanted = Promise("expected").rule(replace(evidence, curves=curves, upper_bound=9.55))
    assert Promise("conditional_mean", CONFIDENCE, t=t).rule(evidence) == wanted


def test_the_smallest_set() -> None:
    """With t = 0: bound / (1 - confidence) / (n + 1) <= threshold."""
    wanted = Promise("conditional_mean", 0.9)
    assert wanted.smallest_calibration_set(0.1, 1.0) == 99
    assert wanted.smallest_calibration_set(0.1, None) == 1
    assert Promise("conditional_mean", 0.9, t=0.05).smallest_calibration_set(0.1, 1.0) == 189
    nothing = np.zeros((189, len(GRID)))
    evidence = CalibrationData(0.1, np.zeros(189), Curves(np.full(189, "i"), GRID, nothing, nothing), 1.0)
    assert Promise("conditional_mean", 0.9, t=0.05).rule(evidence).lam == np.inf
    fewer = replace(evidence, curves=evidence.curves.take(np.arange(188)), critical_lambdas=np.zeros(188))
    assert Promise("conditional_mean", 0.9, t=0.05).rule(fewer).is_vacuous


def test_the_choice_of_t_helps() -> None:
    truths = heavy_tailed()
    _, evidence = truths.draw(np.random.default_rng(4), 1000)
    assert (
        fixed(truths, 1000).rule(evidence).lam >= Promise("conditional_mean", CONFIDENCE).rule(evidence).lam
    )
    assert fixed(two_points(), 1000).axes.statement.t > 0


def test_the_claim_does_not_round_confidence_up() -> None:
    assert Promise("conditional_mean", 0.9).claim("l1", 0.02) == "P(E[l1 | x] <= 0.02) >= 0.90"
    assert Promise("conditional_mean", 0.999).claim("l1", 0.02) == "P(E[l1 | x] <= 0.02) >= 0.999"
