"""The exact band for uniform order statistics."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from conformask.promises.order import binomial_rank, pointwise_delta, probability_below_all, rank_bounds


def steck(bounds: list[Fraction]) -> Fraction:
    """P(U_(i) <= bounds_i for all i) = n! det[b_i^(j-i+1) / (j-i+1)!] (Steck 1971), exactly."""
    n = len(bounds)
    matrix = [
        [
            bounds[i] ** (j - i + 1) / math.factorial(j - i + 1) if j - i + 1 >= 0 else Fraction(0)
            for j in range(n)
        ]
        for i in range(n)
    ]
    determinant = Fraction(1)
    for k in range(n):
        pivot = matrix[k][k]
        determinant *= pivot
        for i in range(k + 1, n):
            factor = matrix[i][k] / pivot
            matrix[i] = [a - factor * b for a, b in zip(matrix[i], matrix[k], strict=True)]
    return math.factorial(n) * determinant


def test_one_and_two_points() -> None:
    for a in (0.0, 0.1, 0.6, 1.0):
        assert probability_below_all(np.array([a])) == pytest.approx(a, abs=1e-12)
        for b in (a, min(1, a + 0.2), 1.0):
            exact = 2 * a * b - a * a
            assert probability_below_all(np.array([a, b])) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 12])
def test_against_stecks_determinant(n: int) -> None:
    generator = np.random.default_rng(n)
    for _ in range(10):
        bounds = np.sort(generator.integers(1, 1000, n))
        exact = float(steck([Fraction(int(b), 1000) for b in bounds]))
        assert probability_below_all(bounds / 1000) == pytest.approx(exact, abs=1e-11)


@pytest.mark.parametrize(("n", "delta"), [(20, 0.05), (100, 0.01), (400, 0.003)])
def test_against_brute_simulation(n: int, delta: float) -> None:
    bounds, draws = rank_bounds(n, delta), 6_000_000 // n
    uniform = np.sort(np.random.default_rng(n).random((draws, n), dtype=np.float32), axis=1)
    share, exact = (uniform <= bounds).all(axis=1).mean(), probability_below_all(bounds)
    assert share == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / draws))


@pytest.mark.parametrize("delta", [0.1, 0.05, 0.1 / 64])
def test_the_delta_of_one_rank_exhausts_that_of_all(delta: float) -> None:
    for n in (1, 2, 3, 10, 100, 1000):
        found = pointwise_delta(n, delta)
        missed = 1 - probability_below_all(rank_bounds(n, found))
        assert missed <= delta * (1 + 1e-9)
        assert missed == pytest.approx(delta, rel=1e-3)


def test_it_lies_between_union_and_single_and_falls_with_n() -> None:
    found = [pointwise_delta(n, 0.1 / 64) for n in (1, 2, 3, 5, 10, 30, 100, 300, 1000, 2000)]
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(0.1 / 64)
    assert found[-1] > 0.1 / 64 / 300, "a hundred times as many ranks cost far less than a hundredth"


def dkw_rank(n: int, confidence: float, delta: float) -> int:
    """max{j : j / n <= 1 - confidence - sqrt(log(1 / delta) / 2n)}, one-sided (Massart 1990)."""
    return math.floor(n * (1 - confidence - math.sqrt(math.log(1 / delta) / (2 * n))) + 1e-9)


def test_the_table_of_the_mathematics() -> None:
    delta = 0.1 / 64
    assert binomial_rank(1000, 0.9, pointwise_delta(1000, delta)) == 64
    assert dkw_rank(1000, 0.9, delta) in (43, 44)
    assert binomial_rank(1000, 0.9, 0.1) == 88


def test_bounds_are_quantiles_of_order_statistics() -> None:
    bounds = rank_bounds(30, 0.02)
    assert (np.diff(bounds) > 0).all()
    for rank in (1, 7, 30):
        assert stats.beta.sf(bounds[rank - 1], rank, 31 - rank) == pytest.approx(0.02)
        assert stats.binom.cdf(rank - 1, 30, bounds[rank - 1]) == pytest.approx(0.02)


def test_bounds_that_reach_1_and_impossible_ones() -> None:
    assert probability_below_all(np.ones(50)) == pytest.approx(1, abs=1e-10)
    assert probability_below_all(np.array([0.0, 0.5, 1.0])) == 0
    assert probability_below_all(np.array([1e-200, 0.5, 1.0])) == pytest.approx(0, abs=1e-100)
