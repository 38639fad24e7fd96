import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from conformask.promises.data import CalibrationData, Curves
from conformask.promises.order import (
    best_start,
    between_grid_points,
    first_crossing,
    meets_threshold,
    refined,
)
from conformask.promises.promise import Promise
from conformask.promises.rules import Rule
from promised import Deploy, breaks_coverage
from worlds import GRID, THRESHOLD, heavy_tailed, last_passing, non_monotone


def brute_force(grid: np.ndarray, curve: np.ndarray, threshold: float) -> float:
    good = [k for k in range(len(grid)) if all(d <= threshold * (1 + 1e-6) for d in curve[1 : k + 1])]
    return float(grid[max(good)])


@pytest.mark.parametrize("monotone", [True, False])
def test_against_brute_force(monotone: bool) -> None:
    generator = np.random.default_rng(0)
    distance = generator.random((300, len(GRID))) ** 0.1
    distance[:, 0] = 0
    distance = np.sort(distance, axis=1) if monotone else distance
    found = [first_crossing(GRID, distance, threshold) for threshold in (0.5, 0.9, 0.97, 0.999)]
    for threshold, critical in zip((0.5, 0.9, 0.97, 0.999), found, strict=True):
        np.testing.assert_array_equal(critical, [brute_force(GRID, d, threshold) for d in distance])
    assert len(np.unique(found)) > 10
    if not monotone:
        assert (found[1] < last_passing(GRID, distance, 0.9)).any()


def test_the_ends() -> None:
    grid = np.array([0.0, 1.0, 2.0, math.inf])
    curves = np.array(
        [[0, 0.1, 0.2, 0.3], [0, 0.9, 0.1, 0.1], [0, 0.1, 0.2, 0.9], [0, 0.1, 0.9, 0.2], [0.9, 0.1, 0.2, 0.3]]
    )
    np.testing.assert_array_equal(first_crossing(grid, curves, 0.5), [math.inf, 0, 2, 1, math.inf])


def test_the_threshold_itself_passes() -> None:
    grid, t = np.array([0.0, 1.0, 2.0]), 0.1
    assert first_crossing(grid, np.array([[0, t, t]]), t) == 2
    assert first_crossing(grid, np.array([[0, t, t * (1 + 0.9e-6)]]), t) == 2
    assert first_crossing(grid, np.array([[0, t, t * (1 + 1.1e-6)]]), t) == 1
    assert not meets_threshold(np.array([math.nan]), t).any()


def test_input_is_left_alone() -> None:
    curve = np.array([[5.0, 0.1, 0.1]])
    first_crossing(np.array([0.0, 1.0, 2.0]), curve, 0.5)
    assert curve[0, 0] == 5


def with_crossings(find: Callable[..., np.ndarray]) -> Deploy:
    """The marginal rule on critical lambdas found in another way."""

    def deploy(evidence: CalibrationData) -> Rule:
        critical = find(GRID, evidence.curves.loss, THRESHOLD)
        return Promise("marginal", 0.9).rule(replace(evidence, critical_lambdas=critical))

    return deploy


@pytest.mark.parametrize("n", [9, 20, 100])
def test_first_crossing_keeps_coverage_where_the_largest_passing_does_not(n: int) -> None:
    world = non_monotone()
    assert not breaks_coverage(world, with_crossings(first_crossing), n, 1000)
    assert breaks_coverage(world, with_crossings(last_passing), n, 1000)


def test_between_grid_points_lies_where_it_says() -> None:
    grid = np.array([0.0, 1.0, 3.0, math.inf])
    curves = np.array([[0, 0.1, 0.2, 0.3], [0, 0.9, 1, 1], [0, 0.1, 0.9, 0.9], [0, 0.1, 0.2, 0.9]])
    found = between_grid_points(grid, curves, 0.5)
    np.testing.assert_allclose(found, [math.inf, 0, 2, 3])
    exact = heavy_tailed()
    between = between_grid_points(GRID, exact.distance, THRESHOLD)
    on_grid = first_crossing(GRID, exact.distance, THRESHOLD)
    known = (on_grid > 0) & np.isfinite(on_grid)
    following = GRID[np.searchsorted(GRID, on_grid[known]) + 1]
    assert (between[known] >= on_grid[known]).all()
    assert (between[known] <= following).all()
    np.testing.assert_array_equal(between[~known], on_grid[~known])


def test_refined_lies_around_the_lambda_of_the_confidence() -> None:
    grid = np.array([0.0, 1e-3, 1.0, 10.0, 1e3, math.inf])
    critical = np.random.default_rng(0).uniform(2, 9, 400)
    found = refined(grid, critical, 0.9)
    assert set(grid) <= set(found)
    added = np.setdiff1d(found, grid)
    below = (critical[:, None] < added).mean(axis=0)
    assert below.min() < 0.1 < below.max()
    assert np.diff(below).max() < 0.01, "hardly an image is lost from point to point"
    assert below.min() > 0.05
    assert below.max() < 0.15


@pytest.mark.parametrize("critical", [[0.0] * 5, [math.inf] * 5, [0.0, math.inf], [5.0], [5.0] * 9])
def test_refined_keeps_to_the_grid_where_nothing_is_to_be_found(critical: list[float]) -> None:
    grid = np.array([0.0, 1.0, 10.0, math.inf])
    found = refined(grid, np.array(critical), 0.9)
    assert (np.diff(found) > 0).all()
    assert set(grid) <= set(found)
    assert len(found) <= len(grid) + 24


def test_refined_wins_back_coverage_that_a_coarse_grid_gives_away() -> None:
    """Images pass up to their own lambda; the grid has a point for each factor of 1.5."""
    generator = np.random.default_rng(0)
    coarse = np.array([0.0, *1.5 ** np.arange(-20, 20), math.inf])
    plain, fine = [], []
    for _ in range(300):
        selection, calibration = generator.lognormal(0, 1, 136), generator.lognormal(0, 1, 1000)
        for grid, coverage in ((coarse, plain), (refined(coarse, selection, 0.9), fine)):
            failing = (grid > calibration[:, None]).astype(float)
            curves = Curves(np.arange(1000).astype(str), grid, failing, failing)
            critical = first_crossing(grid, failing, 0.5)
            lam = Promise("marginal", 0.9).rule(CalibrationData(0.5, critical, curves, monotone=False)).lam
            coverage.append(stats.lognorm.sf(lam, 1))
    assert 0.9 - 4 * np.std(fine) / math.sqrt(300) <= np.mean(fine) < 0.91
    assert np.mean(plain) > 0.93


def start_by_loops(
    grid: np.ndarray, losses: np.ndarray, hidden: np.ndarray, threshold: float, counts: range
) -> float:
    """The start that hides least on average over these numbers of images that fail."""
    averages = []
    for start in range(1, len(grid) - 1):
        passing = []
        for curve in losses:
            point = start
            while point < len(grid) and curve[point] <= threshold:
                point += 1
            passing.append(point - 1 if point > start else 0)
        averages.append(np.mean([hidden[sorted(passing)[count]] for count in counts]))
    return float(grid[1 + int(np.argmin(averages))])


def test_the_start_is_where_least_is_hidden_over_all_failures_allowed() -> None:
    """Of 19 images and 80 %, the four smallest crossings count; the largest of them alone is no guide."""
    generator, grid, others = np.random.default_rng(0), np.array([0.0, *range(1, 9), math.inf]), 0
    hidden = np.linspace(1, 0, len(grid)) ** 2
    for _ in range(50):
        losses = generator.random((19, len(grid))) < np.geomspace(0.4, 0.02, len(grid))
        start = best_start(grid, losses.astype(float), hidden, 0.5, 0.8)
        assert start == start_by_loops(grid, losses, hidden, 0.5, range(4))
        others += start != start_by_loops(grid, losses, hidden, 0.5, range(3, 4))
    assert others > 5


def test_few_images_fail_at_the_start_among_others_too() -> None:
    """Curves that fail at random where little is shown: 60 images choose the start for 4000 others."""
    generator, grid = np.random.default_rng(1), np.array([0.0, *np.geomspace(0.01, 1, 30), math.inf])
    chance = np.append(0, np.geomspace(0.3, 0.001, len(grid) - 1))
    hidden, shares = np.linspace(1, 0, len(grid)), []
    for _ in range(50):
        losses = (generator.random((60, len(grid))) < chance).astype(float)
        start = best_start(grid, losses, hidden, 0.5, 0.9)
        shares.append(chance[grid == start])
    assert np.mean(shares) < 0.05
