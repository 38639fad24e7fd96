"""Grids of lambdas: the first crossing, and every threshold and confidence at once."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from conformask.errors import InvalidArgumentError
from conformask.promises import axes as certainty
from conformask.promises.axes import THRESHOLDS
from conformask.promises.order import (
    CalibrationData,
    Curves,
    best_start,
    between_grid_points,
    binomial_rank,
    coverage_range,
    first_crossing,
    meets_threshold,
    pointwise_delta,
    rank_bounds,
    refined,
)
from conformask.promises.promise import Promise
from promised import breaks_coverage, too_often
from worlds import GRID, RANDOM, THRESHOLD, evidence_of, heavy_tailed, last_passing, non_monotone


def brute_force(grid, curve, threshold):
    good = [k for k in range(len(grid)) if all(d <= threshold * (1 + 1e-6) for d in curve[1 : k + 1])]
    return float(grid[max(good)])


@pytest.mark.parametrize("monotone", [True, False])
def test_against_brute_force(monotone):
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


def test_the_ends():
    grid = np.array([0.0, 1.0, 2.0, math.inf])
    curves = np.array(
        [[0, 0.1, 0.2, 0.3], [0, 0.9, 0.1, 0.1], [0, 0.1, 0.2, 0.9], [0, 0.1, 0.9, 0.2], [0.9, 0.1, 0.2, 0.3]]
    )
    np.testing.assert_array_equal(first_crossing(grid, curves, 0.5), [math.inf, 0, 2, 1, math.inf])


def test_the_threshold_itself_passes():
    grid, t = np.array([0.0, 1.0, 2.0]), 0.1
    assert first_crossing(grid, np.array([[0, t, t]]), t) == 2
    assert first_crossing(grid, np.array([[0, t, t * (1 + 0.9e-6)]]), t) == 2
    assert first_crossing(grid, np.array([[0, t, t * (1 + 1.1e-6)]]), t) == 1
    assert not meets_threshold(np.array([math.nan]), t).any()


def test_input_is_left_alone():
    curve = np.array([[5.0, 0.1, 0.1]])
    first_crossing(np.array([0.0, 1.0, 2.0]), curve, 0.5)
    assert curve[0, 0] == 5


def with_crossings(find):
    """The marginal rule on critical lambdas found in another way."""

    def deploy(evidence):
        critical = find(GRID, evidence.curves.loss, THRESHOLD)
        return Promise("marginal", 0.9).rule(replace(evidence, critical_lambdas=critical))

    return deploy


@pytest.mark.parametrize("n", [9, 20, 100])
def test_first_crossing_keeps_coverage_where_the_largest_passing_does_not(n):
    world = non_monotone()
    assert not breaks_coverage(world, with_crossings(first_crossing), n, 1000)
    assert breaks_coverage(world, with_crossings(last_passing), n, 1000)


def test_between_grid_points_lies_where_it_says():
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


def test_refined_lies_around_the_lambda_of_the_confidence():
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
def test_refined_keeps_to_the_grid_where_nothing_is_to_be_found(critical):
    grid = np.array([0.0, 1.0, 10.0, math.inf])
    found = refined(grid, np.array(critical), 0.9)
    assert (np.diff(found) > 0).all()
    assert set(grid) <= set(found)
    assert len(found) <= len(grid) + 24


def test_refined_wins_back_coverage_that_a_coarse_grid_gives_away():
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


def start_by_loops(grid, losses, hidden, threshold, counts):
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


def test_the_start_is_where_least_is_hidden_over_all_failures_allowed():
    """Of 19 images and 80 %, the four smallest crossings count; the largest of them alone is no guide."""
    generator, grid, others = np.random.default_rng(0), np.array([0.0, *range(1, 9), math.inf]), 0
    hidden = np.linspace(1, 0, len(grid)) ** 2
    for _ in range(50):
        losses = generator.random((19, len(grid))) < np.geomspace(0.4, 0.02, len(grid))
        start = best_start(grid, losses.astype(float), hidden, 0.5, 0.8)
        assert start == start_by_loops(grid, losses, hidden, 0.5, range(4))
        others += start != start_by_loops(grid, losses, hidden, 0.5, range(3, 4))
    assert others > 5


def test_few_images_fail_at_the_start_among_others_too():
    """Curves that fail at random where little is shown: 60 images choose the start for 4000 others."""
    generator, grid = np.random.default_rng(1), np.array([0.0, *np.geomspace(0.01, 1, 30), math.inf])
    chance = np.append(0, np.geomspace(0.3, 0.001, len(grid) - 1))
    hidden, shares = np.linspace(1, 0, len(grid)), []
    for _ in range(50):
        losses = (generator.random((60, len(grid))) < chance).astype(float)
        start = best_start(grid, losses, hidden, 0.5, 0.9)
        shares.append(chance[grid == start])
    assert np.mean(shares) < 0.05


CONFIDENCES = np.linspace(0.3, 0.99, 70)
DELTA = 0.1


def any_missed(ranks, n, draws=4000):
    """Whether coverage is below some confidence, at its rank; critical lambdas uniform, one threshold."""
    lam = np.sort(np.random.default_rng(n).random((draws, n)), axis=1)
    deployed = np.where(ranks > 0, lam[:, np.maximum(ranks, 1) - 1], 0.0)
    return (1 - deployed < CONFIDENCES).any(axis=1)


@pytest.mark.parametrize("n", [5, 20, 100, 400])
def test_every_confidence_holds_at_once_tightly(n, monkeypatch):
    """With one threshold declared; many confidences nearly exhaust delta, one at a time would miss more."""
    monkeypatch.setattr(certainty, "THRESHOLDS", 1)
    ranks = np.array([Promise("simultaneous", float(c), DELTA).rank(n) for c in CONFIDENCES])
    missed = any_missed(ranks, n)
    assert not too_often(missed, DELTA)
    lam, bounds = (
        np.sort(np.random.default_rng(1).random((4000, n))),
        rank_bounds(n, pointwise_delta(n, DELTA)),
    )
    every = (lam > bounds).any(axis=1)
    assert every.mean() == pytest.approx(DELTA, abs=4 * math.sqrt(DELTA * (1 - DELTA) / 4000))
    single = np.array([binomial_rank(n, float(c), DELTA) for c in CONFIDENCES])
    assert too_often(any_missed(single, n), DELTA), "a single pac rank holds at all confidences?"


@pytest.mark.quick(1)
@pytest.mark.parametrize("n", [100, 300])
def test_every_threshold_and_confidence_holds_at_once(n):
    """The lambda of a threshold under smooth heavy-tailed curves: scale * threshold / error."""
    world, generator, draws = RANDOM["heavy_tailed"](), np.random.default_rng(n), 300
    error, scale = world.distance[:, -1], 1 / (world.distance[:, 1] / world.distance[:, -1] / 0.02)
    thresholds = np.geomspace(0.005, 0.9, THRESHOLDS)
    critical = np.where(error[:, None] <= thresholds, math.inf, scale[:, None] * thresholds / error[:, None])
    ascending = np.sort(critical, axis=0)
    ranks = np.array([Promise("simultaneous", float(c), DELTA).rank(n) for c in CONFIDENCES])
    singles = np.array([binomial_rank(n, float(c), DELTA) for c in CONFIDENCES])
    missed: dict[str, list[bool]] = {"all": [], "single": []}
    for _ in range(draws):
        lam = np.sort(critical[world.draw(generator, n)], axis=0)
        for name, rank in (("all", ranks), ("single", singles)):
            some = rank > 0
            deployed = lam[rank[some] - 1]
            coverage = [
                1 - np.searchsorted(ascending[:, a], deployed[:, a]) / len(ascending) for a in range(64)
            ]
            missed[name].append(bool((np.array(coverage) < CONFIDENCES[some] - 1e-9).any()))
    assert not too_often(np.array(missed["all"]), DELTA)
    assert too_often(np.array(missed["single"]), DELTA)


def test_the_rank_of_the_mathematics():
    assert Promise("simultaneous", 0.9, 0.1).rank(1000) == 64
    assert math.floor(1000 * (0.1 - math.sqrt(math.log(64 / 0.1) / 2000))) in (43, 44), (
        "DKW's, see test_order"
    )
    assert binomial_rank(1000, 0.9, 0.1) == 88


def test_the_rule_is_that_order_statistic():
    critical = np.random.default_rng(0).permutation(np.arange(1.0, 1001.0))
    assert Promise("simultaneous", 0.9, 0.1).rule(evidence_of(critical)).lam == 64
    assert Promise("simultaneous", 0.9, 0.1).rule(evidence_of(critical[:50])).is_vacuous


def test_thresholds_are_declared_on_selection_images():
    world = RANDOM["heavy_tailed"]()
    selection = world.evidence(np.arange(200))
    fixed = Promise("simultaneous", 0.9, 0.1).fit_on_selection(selection, 1000).axes.certainty
    assert 2 <= len(fixed.thresholds) <= THRESHOLDS
    assert list(fixed.thresholds) == sorted(fixed.thresholds)
    assert selection.threshold in fixed.thresholds
    assert fixed.thresholds[-1] == pytest.approx(selection.curves.loss[:, -1].max())
    for threshold in (*fixed.thresholds, 0.123, 7.0):
        snapped = fixed.snapped(threshold)
        assert snapped in fixed.thresholds
        assert snapped <= threshold * (1 + 1e-9)
        assert not [a for a in fixed.thresholds if snapped < a <= threshold]
    with pytest.raises(InvalidArgumentError, match="below the smallest declared threshold"):
        fixed.snapped(fixed.thresholds[0] / 2)


def test_thresholds_where_no_selection_image_errs():
    selection = replace(evidence_of(np.full(10, np.inf)), threshold=0.3)
    assert 0.3 in Promise("simultaneous", 0.9, 0.1).fit_on_selection(selection, 100).axes.certainty.thresholds


def test_the_smallest_set():
    for confidence, delta in ((0.5, 0.1), (0.9, 0.05), (0.95, 0.1)):
        wanted = Promise("simultaneous", confidence, delta)
        n = wanted.smallest_calibration_set(None, None)
        assert wanted.rank(n) >= 1
        assert wanted.rank(n - 1) == 0
        assert coverage_range(n, wanted.rank(n))[0] > confidence


def test_more_declared_thresholds_cost_rank():
    many = Promise("simultaneous", 0.9, 0.1, thresholds=tuple(np.linspace(0.1, 1, 1000).tolist()))
    assert many.rank(1000) < Promise("simultaneous", 0.9, 0.1).rank(1000)
    few = Promise("simultaneous", 0.9, 0.1, thresholds=(0.1, 0.2))
    assert few.rank(1000) == 64, "the number in the promise is the most that could be declared"
    claim = many.claim("l1", 0.02)
    assert claim.startswith("with probability 0.90 over calibration sets, for 1000 thresholds and every")
