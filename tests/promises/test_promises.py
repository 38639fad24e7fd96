"""Every guarantee in every world and for every size of the calibration set keeps its promise.

That each of these judges notices broken rules is shown in the tests of the guarantees, by the same functions.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from conformask.promises.promise import GUARANTEES, Promise, takes
from promised import (
    CONFIDENCE,
    DELTA,
    Deploy,
    breaks_coverage,
    breaks_mean,
    breaks_pac,
    breaks_rcps,
    coverage,
    falls_short,
    risk,
    simulated,
)
from worlds import CERTAIN, GRID, RANDOM, THRESHOLD, Fields, World

DRAWS = {5: 2000, 9: 2000, 20: 2000, 100: 1000, 1000: 250}
Judge = Callable[[World, Deploy, int, int], bool]


def deployed(name: str, own_bound: bool = False) -> Callable[[World], Deploy]:
    """The rule of a guarantee, choices made on 200 selection images of that world."""
    wanted = {"confidence": CONFIDENCE, "delta": DELTA}
    bare = Promise(name, **{key: value for key, value in wanted.items() if key in takes(name)})

    def prepared(world: World) -> Deploy:
        selection = world.evidence(world.draw(np.random.default_rng(99), 200))
        fixed = bare.fit_on_selection(replace(selection, own_bound=own_bound), 100)
        return lambda evidence: fixed.rule(replace(evidence, own_bound=own_bound))

    return prepared


def breaks_tilted(world: World, deploy: Deploy, n: int, draws: int) -> bool:
    return breaks_coverage(world, deploy, n, draws, tilted=True)


def breaks_groups(world: World, deploy: Deploy, n: int, draws: int) -> bool:
    fields, generator = Fields.of(world), np.random.default_rng(n)
    draws = draws // 3
    found = [fields.coverage_of_all(deploy(fields.evidence(generator, n)).lam) for _ in simulated(draws)]
    return falls_short(np.array(found), CONFIDENCE)


def breaks_categories(world: World, deploy: Deploy, n: int, draws: int) -> bool:
    """n images of the first category, three halves as many of the second; in each the promise holds."""
    generator = np.random.default_rng(n)
    members = {c: np.flatnonzero(world.category == c) for c in np.unique(world.category)}
    found: dict[str, list[float]] = {c: [] for c in members}
    for _ in simulated(draws):
        drawn = [generator.choice(images, n + k * n // 2) for k, images in enumerate(members.values())]
        rule = deploy(world.evidence(np.concatenate(drawn)))
        for category, images in members.items():
            tested = generator.choice(images, 20)
            found[category].append(world.passing(tested, rule(world.facts(tested))).mean())
    return any(falls_short(np.array(values), CONFIDENCE) for values in found.values())


def breaks_conditional(world: World, deploy: Deploy, n: int, draws: int) -> bool:
    """What it implies of the mean: E d <= threshold; the promise itself is judged in its own tests."""
    return breaks_mean(world, deploy, n, draws)


JUDGES: dict[str, Judge] = {
    "marginal": breaks_coverage,
    "pac": breaks_pac,
    "expected": breaks_mean,
    "conditional_mean": breaks_conditional,
    "rcps": breaks_rcps,
    "rcps_hb": breaks_rcps,
    "ltt": breaks_pac,
    "groups": breaks_groups,
    "categories": breaks_categories,
    "weighted": breaks_tilted,
    "adaptive": breaks_coverage,
    "simultaneous": breaks_pac,
}
RULES = {name: deployed(name) for name in JUDGES}
OWN = {f"{name}, own bounds": deployed(name, own_bound=True) for name in ("expected", "conditional_mean")}
ALL = [(name, JUDGES[name.split(",")[0]], rule) for name, rule in (RULES | OWN).items()]


def test_every_guarantee_has_a_judge() -> None:
    assert JUDGES.keys() == GUARANTEES.keys()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("world", "n"),
    [
        pytest.param(world, n, marks=() if (i + j) % 2 == 0 else pytest.mark.slow)
        for i, world in enumerate(RANDOM)
        for j, n in enumerate(DRAWS)
    ],
)
@pytest.mark.parametrize(("name", "judge", "rule"), ALL, ids=[name for name, _, _ in ALL])
def test_the_promise_is_kept(
    name: str, judge: Judge, rule: Callable[[World], Deploy], world: str, n: int
) -> None:
    drawn = RANDOM[world]()
    draws = DRAWS[n] // 2 if name.startswith("rcps") else DRAWS[n]
    assert not judge(drawn, rule(drawn), n, draws)


@pytest.mark.parametrize("n", [1, 5, 100])
@pytest.mark.parametrize("world", CERTAIN)
@pytest.mark.parametrize(("name", "judge", "rule"), ALL, ids=[name for name, _, _ in ALL])
def test_all_or_nothing(name: str, judge: Judge, rule: Callable[[World], Deploy], world: str, n: int) -> None:
    drawn = CERTAIN[world]()
    assert not judge(drawn, rule(drawn), n, 5)


MOST = 1000
"""With so many images without error every guarantee opens the masks wholly."""


@pytest.mark.parametrize(("name", "judge", "rule"), ALL, ids=[name for name, _, _ in ALL])
def test_lambda_is_the_largest_without_error_and_0_where_nothing_is_feasible(
    name: str, judge: Judge, rule: Callable[[World], Deploy]
) -> None:
    for world, lam in ((CERTAIN["without_error"](), np.inf), (CERTAIN["hopeless"](), 0.0)):
        images = np.arange(MOST)
        evidence = world.evidence(images, group=images.astype(str))
        found = rule(world)(evidence)(world.facts(images[:3]))
        largest = GRID[-2] if name == "adaptive" and lam else lam
        np.testing.assert_allclose(found, [largest] * 3)
        assert rule(world)(evidence).is_vacuous == (lam == 0)


@pytest.mark.thorough
@pytest.mark.parametrize("n", [20, 100, 1000])
def test_promises_are_not_kept_by_closing_all_masks(n: int) -> None:
    """What is left over is what the theory allows."""
    world = RANDOM["heavy_tailed"]()
    marginal = coverage(world, RULES["marginal"](world), n, DRAWS[n])
    adaptive = coverage(world, RULES["adaptive"](world), n, DRAWS[n])
    for values, left_over in ((marginal, 1), (adaptive, 1 + world.features.shape[1])):
        noise = 4 * values.std() / len(values) ** 0.5
        assert values.mean() <= CONFIDENCE + left_over / (n + 1) + noise
    expected = risk(world, RULES["expected"](world), n, DRAWS[n])
    steps = np.diff(world.mean_risk[world.mean_risk < 2 * THRESHOLD]).max()
    noise = 4 * expected.std() / len(expected) ** 0.5
    assert expected.mean() >= THRESHOLD - 2 / (n + 1) - steps - noise
    assert len(GRID) == world.distance.shape[1]
