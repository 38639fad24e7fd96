import math

import numpy as np
import pytest

from conformask.conformal.crossing import first_crossing, passes
from conformask.conformal.marginal import Marginal

GRID = np.array([0.0, *np.linspace(0.1, 2.8, 28), math.inf])


def brute_force(grid: np.ndarray, curve: np.ndarray, threshold: float) -> float:
    good = [k for k in range(len(grid)) if all(d <= threshold * (1 + 1e-6) for d in curve[1 : k + 1])]
    return float(grid[max(good)])


def last_passing(grid: np.ndarray, distance: np.ndarray, threshold: float) -> np.ndarray:
    """What a search for the largest lambda that passes finds: wrong."""
    ok = passes(distance, threshold)
    return grid[len(grid) - 1 - ok[:, ::-1].argmax(axis=1)]


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
    assert not passes(np.array([math.nan]), t).any()


def test_input_is_left_alone() -> None:
    curve = np.array([[5.0, 0.1, 0.1]])
    first_crossing(np.array([0.0, 1.0, 2.0]), curve, 0.5)
    assert curve[0, 0] == 5


def world(generator: np.random.Generator, n: int) -> np.ndarray:
    """Curves that fail in a window, pass again beyond it, and fail for good later."""
    start = generator.uniform(0.2, 1.2, (n, 1))
    stop, end = start + generator.uniform(0.3, 1.0, (n, 1)), generator.uniform(0.8, 2.9, (n, 1))
    return np.where((start <= GRID) & (stop > GRID) | (end < GRID), 1.0, 0.0)


def test_first_crossing_keeps_coverage_where_the_largest_passing_does_not() -> None:
    generator, draws, n = np.random.default_rng(1), 3000, 20
    covered: dict[str, list[bool]] = {"first": [], "last": []}
    for _ in range(draws):
        curves = world(generator, n + 1)
        for name, find in (("first", first_crossing), ("last", last_passing)):
            lam = Marginal(0.9).rule(find(GRID, curves[:n], 0.5)).lam
            at = np.searchsorted(GRID, lam)
            covered[name].append(bool(at == 0 or curves[n, at] <= 0.5))
    sigma = math.sqrt(0.09 / draws)
    assert np.mean(covered["first"]) >= 0.9 - 4 * sigma
    assert np.mean(covered["last"]) < 0.9 - 8 * sigma
