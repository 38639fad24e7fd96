import math
from dataclasses import replace

import numpy as np
import pytest

from conformask.errors import InvalidArgumentError
from conformask.promises.data import CalibrationData, Curves
from conformask.promises.promise import Promise
from conformask.promises.rules import BoundedRisk, ConstantLambda
from promised import Deploy, breaks_mean, goes_beyond, risk, sigma
from worlds import GRID, RANDOM, THRESHOLD, World, constant_risk, evidence_of, staircase, swinging

EXPECTED = Promise("expected").rule


def own(deploy: Deploy) -> Deploy:
    return lambda evidence: deploy(replace(evidence, own_bound=True))


def without_bound(evidence: CalibrationData) -> ConstantLambda:
    """The mean risk of the calibration images, no + B."""
    within = evidence.risk().mean(axis=0) <= evidence.threshold
    return ConstantLambda(float(GRID[np.flatnonzero(within).max()]))


def bound_of_zero(evidence: CalibrationData) -> ConstantLambda:
    """n + 1 but no bound: as if the new image could not err."""
    rule = Promise("expected").rule(replace(evidence, own_bound=True))
    return ConstantLambda(float(rule.lambdas(np.zeros((1, len(GRID))))[0]))


def last_within(evidence: CalibrationData) -> ConstantLambda:
    """The largest lambda whose mean raw distance is within, whatever lies below."""
    raw = evidence.curves.loss
    within = (raw.sum(axis=0) + 1.0) / (evidence.n + 1) <= evidence.threshold
    return ConstantLambda(float(GRID[np.flatnonzero(within).max(initial=0)]))


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("broken", "world", "n"),
    [
        (without_bound, RANDOM["flat"](), 5),
        (without_bound, staircase(), 10),
        (without_bound, staircase(), 30),
        (bound_of_zero, staircase(), 10),
        (last_within, swinging(0.12), 100),
    ],
)
def test_the_judge_notices_broken_rules(broken: Deploy, world: World, n: int) -> None:
    assert breaks_mean(world, broken, n, 2000)
    assert not breaks_mean(world, EXPECTED, n, 2000)
    assert not breaks_mean(world, own(EXPECTED), n, 1000)


@pytest.mark.parametrize("n", [9, 10, 15, 40])
def test_it_is_exact_where_images_pass_or_fail(n: int) -> None:
    """Mean distance where lambda > 0 iff at most k of n fail, k = floor((n + 1) threshold - 1)."""
    rate, allowed = 0.15, math.floor((n + 1) * THRESHOLD - 1 + 1e-9)
    terms = [math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(allowed + 1)]
    values = risk(constant_risk(rate), EXPECTED, n, 3000)
    assert values.mean() == pytest.approx(rate * sum(terms), abs=4 * sigma(values) + 1e-12)


def test_own_bounds_open_wider_than_the_constant_and_keep_the_promise() -> None:
    world = RANDOM["heavy_tailed"]()
    for n in (5, 20, 100):
        constant = risk(world, EXPECTED, n, 1000)
        tighter = risk(world, own(EXPECTED), n, 1000)
        assert not goes_beyond(tighter, THRESHOLD)
        assert tighter.mean() > constant.mean()


def test_a_rule_with_own_bounds_at_the_constant_bound_is_the_constant_rule() -> None:
    world = RANDOM["heavy_tailed"]()
    for n in (10, 30, 300):
        evidence = world.evidence(np.arange(n))
        rule = Promise("expected").rule(replace(evidence, own_bound=True))
        assert isinstance(rule, BoundedRisk)
        assert rule.lambdas(np.ones((1, len(GRID))))[0] == Promise("expected").rule(evidence).lam


def brute_force(distance: np.ndarray, bound: np.ndarray, threshold: float) -> float:
    worst = np.maximum.accumulate(distance, axis=1).sum(axis=0)
    within = (worst + bound) / (len(distance) + 1) <= threshold * (1 + 1e-9)
    kept = [k for k in range(len(GRID)) if within[: k + 1].all()]
    return float(GRID[max(kept, default=0)])


def test_against_brute_force() -> None:
    generator = np.random.default_rng(0)
    for n in (1, 5, 30):
        for _ in range(30):
            distance = generator.random((n, len(GRID))) ** 8
            bound = np.maximum.accumulate(generator.random((3, len(GRID))) ** 2, axis=1)
            for threshold in (0.05, 0.3, 0.8):
                curves = Curves(np.full(n, "i"), GRID, distance, distance)
                evidence = CalibrationData(threshold, np.zeros(n), curves, 1.0, own_bound=True)
                found = Promise("expected").rule(evidence).lambdas(bound)
                wanted = [brute_force(distance, one, threshold) for one in bound]
                np.testing.assert_array_equal(found, wanted)


def test_the_smallest_set() -> None:
    """(0 + ... + 0 + B) / (n + 1) <= threshold."""
    for threshold, bound, n in ((0.1, 1.0, 9), (0.02, 1.0, 49), (0.5, 2.0, 3), (1.0, 1.0, 1), (0.3, 1.0, 3)):
        assert Promise("expected").smallest_calibration_set(threshold, bound) == n
        for images, lam in ((n, np.inf), (n - 1, 0.0)):
            if images:
                nothing = evidence_of(np.zeros(images))
                evidence = replace(nothing, threshold=threshold, upper_bound=bound)
                assert Promise("expected").rule(evidence).lam == lam
    assert Promise("expected").smallest_calibration_set(0.1, None) == 1
    with pytest.raises(InvalidArgumentError, match="give one"):
        Promise("expected").smallest_calibration_set(None, 1.0)


def test_what_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="upper bound"):
        Promise("expected").rule(evidence_of(np.ones(50)))
    for wanted in (Promise("expected"), Promise("conditional_mean", 0.9)):
        assert wanted.rank(100) is None


def test_a_distance_that_is_not_a_number_opens_nothing() -> None:
    evidence = replace(evidence_of(np.ones(50)), upper_bound=1.0)
    evidence.curves.loss[3, 1] = np.nan
    assert Promise("expected").rule(evidence).lam == 0
