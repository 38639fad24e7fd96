import math
from dataclasses import replace

import numpy as np
import pytest

from conformask.errors import InvalidArgumentError
from conformask.promises.data import CalibrationData, Curves
from conformask.promises.procedures import (
    RCPS,
    Certifies,
    hashed_order,
    hoeffding_bentkus,
    waudby_smith_ramdas,
)
from conformask.promises.promise import Promise
from conformask.promises.rules import ConstantLambda
from promised import Deploy, breaks_rcps
from worlds import GRID, RANDOM, THRESHOLD, World, constant_risk, evidence_of, staircase, swinging


def naive(losses: np.ndarray, level: float, delta: float) -> bool:
    return bool(losses.mean() <= level)


def bernstein_across_lambdas(evidence: CalibrationData) -> ConstantLambda:
    """An empirical Bernstein bound whose variance is that of the curve of means (MAPIE once)."""
    mean = evidence.risk().mean(axis=0)
    log = math.log(2 / 0.1)
    slack = math.sqrt(2 * mean[1:].var() * log / evidence.n) + 7 * log / (3 * (evidence.n - 1))
    passing = mean + slack <= evidence.threshold
    return ConstantLambda(float(GRID[np.flatnonzero(passing).max(initial=0)]))


def of_raw_means(evidence: CalibrationData) -> ConstantLambda:
    """The largest lambda that is certified, on raw curves."""
    raw = evidence.curves.loss
    certain = [hoeffding_bentkus(raw[:, k], evidence.threshold, 0.1) for k in range(len(GRID))]
    return ConstantLambda(float(GRID[np.flatnonzero(certain).max(initial=0)]))


@pytest.mark.quick(2)
@pytest.mark.parametrize("n", [20, 100, 500])
@pytest.mark.parametrize("rule", [RCPS(0.1).rule, Promise("rcps_hb", delta=0.1).rule], ids=["wsr", "hb"])
def test_hardest_worlds(n: int, rule: Deploy) -> None:
    for world in (constant_risk(0.102), swinging(0.105), staircase()):
        assert not breaks_rcps(world, rule, n, 400)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("broken", "world", "n"),
    [
        (RCPS(0.1, certifies=naive).rule, staircase(), 100),
        (RCPS(0.1, certifies=naive).rule, constant_risk(0.102), 100),
        (bernstein_across_lambdas, constant_risk(0.102), 4000),
        (of_raw_means, swinging(0.105), 200),
    ],
    ids=["no bound", "no bound, barely", "variance across lambdas", "largest certified, raw"],
)
def test_the_judge_notices_broken_bounds(broken: Deploy, world: World, n: int) -> None:
    draws = 300
    assert breaks_rcps(world, broken, n, draws)
    assert not breaks_rcps(world, RCPS(0.1).rule, n, draws)


@pytest.mark.parametrize("certifies", [waudby_smith_ramdas, hoeffding_bentkus])
def test_the_smallest_set_is_where_images_without_error_do(certifies: Certifies) -> None:
    for threshold in (0.001, 0.05, 0.3, 0.9, 1.0, 2.0):
        wanted = RCPS(0.05, certifies=certifies)
        n = wanted.smallest_calibration_set(threshold, 1.0)
        assert certifies(np.zeros(n), threshold, 0.05)
        assert n == 1 or not certifies(np.zeros(n - 1), threshold, 0.05)
        assert wanted.smallest_calibration_set(2 * threshold, 2.0) == n
    assert Promise("rcps_hb", delta=0.05).smallest_calibration_set(0.1, 1.0) == 29
    assert RCPS(0.05).smallest_calibration_set(1e-5, 1.0) > 100_000, "and within a second"
    assert RCPS(0.05).smallest_calibration_set(None, None) == 1
    with pytest.raises(InvalidArgumentError, match="give one"):
        RCPS(0.05).smallest_calibration_set(None, 1.0)


def test_it_stops_at_the_first_lambda_that_is_not_certified() -> None:
    distance = np.zeros((200, 6))
    distance[:, 3] = 1.0
    grid = np.array([0.0, 1.0, 2.0, 3.0, 4.0, np.inf])
    evidence = CalibrationData(
        THRESHOLD, np.zeros(200), Curves(np.arange(200).astype(str), grid, distance, distance), 1.0
    )
    for wanted in (RCPS(0.1), Promise("rcps_hb", delta=0.1)):
        assert wanted.rule(evidence).lam == 2
        assert wanted.rule(replace(evidence, upper_bound=1e6)).is_vacuous, "the bound of the distance counts"
        with pytest.raises(InvalidArgumentError, match="upper bound"):
            wanted.rule(replace(evidence, upper_bound=None))


def test_scaling_distance_threshold_and_bound_changes_nothing() -> None:
    world = RANDOM["heavy_tailed"]()
    evidence = world.evidence(np.arange(300))
    curves = replace(evidence.curves, loss=7 * evidence.curves.loss)
    scaled = replace(evidence, threshold=7 * THRESHOLD, curves=curves, upper_bound=7.0)
    for wanted in (RCPS(0.1), Promise("rcps_hb", delta=0.1)):
        assert 0 < wanted.rule(evidence).lam < np.inf
        assert wanted.rule(scaled) == wanted.rule(evidence)


def test_the_order_of_the_images_in_a_folder_does_not_matter() -> None:
    world, generator = RANDOM["heavy_tailed"](), np.random.default_rng(0)
    images = np.arange(400)
    rule = RCPS(0.1).rule(world.evidence(images))
    for _ in range(5):
        assert RCPS(0.1).rule(world.evidence(generator.permutation(images))) == rule
    names = [f"image {k:03d}" for k in range(100)]
    order = hashed_order(names)
    assert sorted(order) == list(range(100))
    assert order != sorted(order)
    assert [names[k] for k in order] == [names[::-1][k] for k in hashed_order(names[::-1])]


def test_without_curves_that_err_masks_open() -> None:
    assert RCPS(0.1).rule(replace(evidence_of(np.ones(50)), upper_bound=1.0)).lam == np.inf
    assert (
        Promise("rcps", delta=0.1).claim("ssim", 0.2)
        == "with probability 0.90 over calibration sets, E ssim <= 0.2"
    )


def test_a_larger_lambda_that_is_certified_by_luck_does_not_count() -> None:
    """Running means grow, but a bound on them need not: betting may win on larger losses."""
    grid = np.array([0.0, 1.0, 2.0, 3.0, np.inf])
    risk = np.tile([0.0, 0.1, 0.2, 0.3, 0.4], (9, 1))
    evidence = CalibrationData(0.5, np.zeros(9), Curves(np.arange(9).astype(str), grid, risk, risk), 1.0)
    lucky = RCPS(0.1, certifies=lambda losses, level, delta: not 0.15 < losses[0] < 0.25)
    assert lucky.rule(evidence).lam == 1.0
