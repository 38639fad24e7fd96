"""What is called worse than chance, by simulation: calibration sets and new images are drawn anew."""

import numpy as np
import pytest

from conformask.promises import coverage_test as law
from conformask.promises.axes import Image, ImageOfNewGroup, first_of_each, group_means
from conformask.promises.coverage_test import PValues, coverage_p_values, resampled_p_values
from conformask.promises.promise import Promise
from promised import too_often
from simulation import simulated
from worlds import RANDOM, THRESHOLD, World

LEVEL = 0.05
NEW = 150


def losses_on(world: World, wanted: Promise, places: np.ndarray, lambdas: np.ndarray) -> np.ndarray:
    if wanted.axes.statement.bounds_a_mean:
        return world.risk(places, lambdas)
    return (~world.passing(places, lambdas)).astype(float)


@pytest.mark.quick(1)
@pytest.mark.parametrize("world", ["heavy_tailed", "flat", "non_monotone"])
@pytest.mark.parametrize(("name", "delta"), [("marginal", None), ("pac", 0.1)])
def test_a_rank_is_rarely_called_worse_than_chance(world: str, name: str, delta: float | None) -> None:
    """Where critical lambdas are distinct as often as the level says; where they tie, more rarely."""
    images, generator = RANDOM[world](), np.random.default_rng(0)
    worse = np.zeros(400, bool)
    for draw in simulated(len(worse)):
        wanted = Promise(name, 0.9, delta)
        if wanted.needs_selection:
            wanted = wanted.fit_on_selection(images.evidence(np.arange(200)), 60)
        rule = wanted.rule(images.evidence(images.draw(generator, 60)))
        new = images.draw(generator, NEW)
        losses = losses_on(images, wanted, new, rule(images.facts(new)))
        worse[draw] = coverage_p_values(60, wanted.rank(60), losses == 0).worse < LEVEL
    assert not too_often(worse, LEVEL)
    if world == "heavy_tailed" and name == "marginal":
        assert worse.mean() > LEVEL / 2, "the law is that of the masks"


@pytest.mark.thorough
def test_a_binomial_law_would_cry_wolf() -> None:
    """As it was before: the calibration set taken for the population."""
    images, generator = RANDOM["heavy_tailed"](), np.random.default_rng(0)
    alarms = []
    for _ in simulated(400):
        lam = Promise("marginal", 0.9).rule(images.evidence(images.draw(generator, 60))).lam
        new = images.draw(generator, 1000)
        met = images.passing(new, np.full(1000, lam))
        alarms.append(
            (met.mean() < 0.9 - 1.645 * np.sqrt(0.09 / 1000), coverage_p_values(60, 6, met).worse < LEVEL)
        )
    naive, by_law = np.mean(alarms, axis=0)
    assert naive > 0.25
    assert by_law < LEVEL + 4 * np.sqrt(LEVEL / 400)


@pytest.mark.thorough
@pytest.mark.parametrize("world", ["heavy_tailed", "non_monotone"])
@pytest.mark.parametrize(
    ("name", "delta"), [("ltt", 0.1), ("expected", None), ("rcps", 0.1), ("adaptive", None)]
)
def test_what_has_no_rank_is_rarely_called_worse(
    world: str, name: str, delta: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(law, "DRAWS", 39)
    images, generator, wanted = RANDOM[world](), np.random.default_rng(1), Promise(name, None, delta)
    worse = np.zeros(60, bool)
    for draw in simulated(len(worse)):
        calibration = images.evidence(images.draw(generator, 80))
        rule, new = wanted.rule(calibration), images.draw(generator, NEW)
        losses = losses_on(images, wanted, new, rule(images.facts(new)))
        worse[draw] = resampled_p_values(wanted, calibration, losses).worse < LEVEL
    assert worse.mean() < 2 * LEVEL + 4 * np.sqrt(LEVEL / len(worse)), "the bootstrap is an approximation"


def of_groups(world: World, generator: np.random.Generator, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and groups of k groups of 1 to 8 images, all of a group about as hard."""
    order = np.argsort(world.hardness)
    centres, counts = generator.integers(len(order), size=k), generator.integers(1, 9, k)
    groups = np.repeat(np.arange(k), counts)
    spread = generator.integers(-500, 500, len(groups))
    return order[(centres[groups] + spread).clip(0, len(order) - 1)], groups


@pytest.mark.quick(1)
@pytest.mark.parametrize("shift", [False, True])
def test_groups_count_together(shift: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(law, "DRAWS", 39)
    images, generator = RANDOM["heavy_tailed"](), np.random.default_rng(2)
    worse = np.zeros(60, bool)
    for draw in simulated(len(worse)):
        places, labels = of_groups(images, generator, 40)
        calibration = images.evidence(places, group=labels)
        rule = Promise("groups", 0.8).rule(calibration)
        new, of_new = of_groups(images, generator, 30)
        losses = (~images.passing(new, np.full(len(new), (10 if shift else 1) * rule.lam))).astype(float)
        worse[draw] = (
            resampled_p_values(Promise("groups", 0.8), calibration, group_means(losses, of_new)).worse < LEVEL
        )
    if shift:
        assert worse.mean() > 0.5, "ten times the lambda"
    else:
        assert worse.mean() < 2 * LEVEL + 4 * np.sqrt(LEVEL / len(worse))


def test_the_expected_range_holds_95_of_100_tests() -> None:
    """From its lower end to its upper one, by drawn calibration sets and tests."""
    generator = np.random.default_rng(0)
    failing = generator.binomial(NEW, generator.beta(6, 55, size=20_000)) / NEW
    low, high = coverage_p_values(60, 6, np.ones(NEW, bool)).expected or (1, 0)
    assert low < failing.mean() < high
    assert (failing < low).mean() < 0.025
    assert 0.95 <= ((failing >= low) & (failing <= high)).mean() < 0.97
    assert (failing > high).mean() < 0.03


def test_p_values_by_hand() -> None:
    """Under one critical lambda, each number of three new images passes with probability 1 / 4."""
    found = coverage_p_values(1, 1, np.array([True, True, False]))
    assert (found.worse, found.better) == pytest.approx((3 / 4, 1 / 2)), "at most, and at least, two"


def test_it_sees_a_lambda_that_is_too_large() -> None:
    images, generator = RANDOM["heavy_tailed"](), np.random.default_rng(3)
    lam = Promise("marginal", 0.9).rule(images.evidence(images.draw(generator, 200))).lam
    new = images.draw(generator, 400)
    tails = coverage_p_values(200, 20, images.passing(new, np.full(400, 3 * lam)))
    assert tails.worse < 1e-4
    assert tails.better > 0.999


def test_losses_are_what_the_promise_is_about() -> None:
    distances = np.array([0.5, 1.0, 1.5, 0.1]) * THRESHOLD
    assert Promise("marginal", 0.9).axes.statement.bounded(distances, THRESHOLD).tolist() == [0, 0, 1, 0]
    assert Promise("expected").axes.statement.bounded(distances, THRESHOLD).tolist() == distances.tolist()
    groups = np.array(["a", "a", "a", "b"])
    assert ImageOfNewGroup().losses(distances, groups) == pytest.approx([distances[:3].mean(), distances[3]])
    assert Image().losses(distances, groups).tolist() == distances[[0, 3]].tolist()
    assert first_of_each(np.array(["b", "a", "b", "c", "a"])).tolist() == [0, 1, 3]
    assert PValues(0.02, 0.99).correct(3) == PValues(0.06, 0.99)
    assert PValues(0.5, 0.6).correct(3) == PValues(1.0, 0.6)
