"""Order statistics: ranks, and the exact band of all of them."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from conformask.promises.order import (
    ROUNDING,
    binomial_rank,
    coverage_range,
    largest_lambda,
    marginal_rank,
    pointwise_delta,
    probability_below_all,
    rank_bounds,
    smallest,
    smallest_binomial_set,
    smallest_marginal_set,
    smallest_set,
)
from conformask.promises.promise import Promise


def test_marginal_ranks_against_fractions():
    for hundredths in range(1, 100):
        confidence = Fraction(hundredths, 100)
        enough = next(n for n in range(1, 200) if Fraction(1, n + 1) <= 1 - confidence)
        assert smallest_marginal_set(hundredths / 100) == enough
        for n in (*range(1, 60), 99, 100, 399, 999, 1000):
            rank = max(j for j in range(n + 1) if Fraction(j, n + 1) <= 1 - confidence)
            assert marginal_rank(n, hundredths / 100) == rank


def test_known_marginal_ranks():
    assert marginal_rank(9, 0.9) == 1
    assert marginal_rank(8, 0.9) == 0
    assert marginal_rank(1000, 0.9) == 100
    assert [smallest_marginal_set(c) for c in (0.9, 0.95, 0.99, 0.5)] == [9, 19, 99, 1]
    for nines in range(1, 8):
        assert smallest_marginal_set(float("0." + "9" * nines)) == 10**nines - 1


@pytest.mark.parametrize("confidence", [0.0, 1e-320, 1e-12, 1e-10])
def test_no_rank_is_above_the_images_there_are(confidence):
    assert marginal_rank(20, confidence) == 20


def test_known_binomial_ranks():
    """The table of the mathematics."""
    deltas = (0.1, 0.05, 0.01)
    assert [binomial_rank(1000, 0.9, delta) for delta in deltas] == [88, 85, 79]
    assert [binomial_rank(100, 0.9, delta) for delta in deltas] == [6, 5, 4]
    assert smallest_binomial_set(0.9, 0.1) == 22
    assert smallest_binomial_set(0.9, 0.05) == 29
    assert smallest_binomial_set(0.95, 0.05) == 59, "of Wilks 1941"


@pytest.mark.parametrize("confidence", [Fraction(1, 2), Fraction(9, 10), Fraction(19, 20), Fraction(99, 100)])
def test_binomial_ranks_against_exact_sums(confidence):
    """With levels that are attained exactly: delta = P(Bin <= k) must allow rank k + 1."""
    p = 1 - confidence
    for n in (1, 2, 5, 13, 22, 60, 200):
        terms = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(min(n, 40) + 1)]
        sums = [sum(terms[: k + 1]) for k in range(len(terms))]
        attained = [total for total in sums[:6] if Fraction(1, 10**9) < total < Fraction(999, 1000)]
        for delta in (*attained, Fraction(1, 10), Fraction(1, 20), Fraction(1, 1000)):
            rank = max((j for j in range(1, len(sums) + 1) if sums[j - 1] <= delta), default=0)
            if rank < len(sums):
                assert binomial_rank(n, float(confidence), float(delta)) == rank, (n, delta)


def test_binomial_ranks_against_scipy():
    for n in (1, 5, 21, 22, 100, 1000, 50_000):
        for confidence in (0.5, 0.9, 0.99):
            for delta in (0.2, 0.1, 0.01, 1e-6):
                rank = binomial_rank(n, confidence, delta)
                assert rank == 0 or stats.binom.cdf(rank - 1, n, 1 - confidence) <= delta
                assert stats.binom.cdf(rank, n, 1 - confidence) > delta


def test_smallest_sets_are_where_ranks_begin():
    for confidence in (0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999):
        n = smallest_marginal_set(confidence)
        assert marginal_rank(n, confidence) == 1 or confidence == 0.5
        assert marginal_rank(n - 1, confidence) == 0
        for delta in (0.1, 0.05, 0.01, confidence**7):
            n = smallest_binomial_set(confidence, delta)
            assert binomial_rank(n, confidence, delta) >= 1
            assert n == 1 or binomial_rank(n - 1, confidence, delta) == 0


@pytest.mark.parametrize("guarantee", ["marginal", "pac", "simultaneous"])
def test_smallest_sets_of_ranks(guarantee):
    for confidence, ranks in ((0.5, (1, 2, 3, 20)), (0.9, (1, 2, 10)), (0.97, (1, 3))):
        procedure = Promise(guarantee, confidence).procedure
        for rank in ranks:
            n = procedure.smallest_of_rank(rank)
            assert procedure.rank(n) >= rank > (procedure.rank(n - 1) if n > 1 else 0)


def test_smallest_set_bisects():
    for wanted in (1, 2, 3, 4, 7, 100, 1023, 1024, 1025):
        asked: list[int] = []
        assert smallest_set(lambda n, wanted=wanted, asked=asked: asked.append(n) or n >= wanted) == wanted
        assert len(asked) <= 2 * math.log2(wanted) + 3


def test_smallest_never_interpolates():
    critical = np.array([math.inf, 3.0, 0.0, 3.0, 5.0])
    assert [smallest(critical, rank) for rank in range(6)] == [0, 0, 3, 3, 5, math.inf]


def brute_force_lambda(critical, weights, budget):
    candidates = [0.0, *critical.tolist(), math.inf]
    return max(lam for lam in candidates if weights[critical < lam].sum() <= budget + 1e-9 or lam == 0)


def test_largest_lambda_against_brute_force():
    generator = np.random.default_rng(0)
    for _ in range(500):
        n = int(generator.integers(1, 12))
        critical = generator.choice([0.0, 1.0, 2.0, 3.0, math.inf], n)
        weights = generator.choice([0.1, 0.2, 0.5, 0.0], n)
        budget = float(generator.choice([0.0, 0.1, 0.3, 1.0, 10.0]))
        assert largest_lambda(critical, weights, budget) == brute_force_lambda(critical, weights, budget)


def test_largest_lambda_at_the_ends():
    one = np.ones(1)
    assert largest_lambda(one, one, -0.01) == 0
    assert largest_lambda(one, one, -1e-12) == 1, "rounding"
    assert largest_lambda(one, one, 0.0) == 1
    assert largest_lambda(one, one, 1.0) == math.inf
    tenths, critical = np.full(10, 0.1), np.arange(1.0, 11.0)
    assert largest_lambda(critical, tenths, 0.3) == 4, ".1 + .1 + .1 > .3 in floats"


def test_coverage_range_is_that_of_simulated_order_statistics():
    generator = np.random.default_rng(1)
    coverage = 1 - np.sort(generator.random((20_000, 50)), axis=1)[:, 4]
    low, high = coverage_range(50, 5)
    assert np.mean(coverage < low) == pytest.approx(0.05, abs=0.007)
    assert np.mean(coverage > high) == pytest.approx(0.05, abs=0.007)
    assert coverage_range(50, 0) == (1, 1)


def test_a_budget_that_is_spent_exactly_is_not_exceeded():
    budget = 2 - ROUNDING
    assert budget + ROUNDING == 2.0, "in floats, too"
    assert largest_lambda(np.array([3.0, 1.0, 2.0]), np.ones(3), budget) == 3.0
    assert largest_lambda(np.array([3.0, 1.0, 2.0]), np.ones(3), budget - 1e-6) == 2.0


def steck(bounds):
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


def test_one_and_two_points():
    for a in (0.0, 0.1, 0.6, 1.0):
        assert probability_below_all(np.array([a])) == pytest.approx(a, abs=1e-12)
        for b in (a, min(1, a + 0.2), 1.0):
            exact = 2 * a * b - a * a
            assert probability_below_all(np.array([a, b])) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 12])
def test_against_stecks_determinant(n):
    generator = np.random.default_rng(n)
    for _ in range(10):
        bounds = np.sort(generator.integers(1, 1000, n))
        exact = float(steck([Fraction(int(b), 1000) for b in bounds]))
        assert probability_below_all(bounds / 1000) == pytest.approx(exact, abs=1e-11)


@pytest.mark.parametrize(("n", "delta"), [(20, 0.05), (100, 0.01), (400, 0.003)])
def test_against_brute_simulation(n, delta):
    bounds, draws = rank_bounds(n, delta), 6_000_000 // n
    uniform = np.sort(np.random.default_rng(n).random((draws, n), dtype=np.float32), axis=1)
    share, exact = (uniform <= bounds).all(axis=1).mean(), probability_below_all(bounds)
    assert share == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / draws))


@pytest.mark.parametrize("delta", [0.1, 0.05, 0.1 / 64])
def test_the_delta_of_one_rank_exhausts_that_of_all(delta):
    for n in (1, 2, 3, 10, 100, 1000):
        found = pointwise_delta(n, delta)
        missed = 1 - probability_below_all(rank_bounds(n, found))
        assert missed <= delta * (1 + 1e-9)
        assert missed == pytest.approx(delta, rel=1e-3)


def test_it_lies_between_union_and_single_and_falls_with_n():
    found = [pointwise_delta(n, 0.1 / 64) for n in (1, 2, 3, 5, 10, 30, 100, 300, 1000, 2000)]
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(0.1 / 64)
    assert found[-1] > 0.1 / 64 / 300, "a hundred times as many ranks cost far less than a hundredth"


def dkw_rank(n, confidence, delta):
    """max{j : j / n <= 1 - confidence - sqrt(log(1 / delta) / 2n)}, one-sided (Massart 1990)."""
    return math.floor(n * (1 - confidence - math.sqrt(math.log(1 / delta) / (2 * n))) + 1e-9)


def test_the_table_of_the_mathematics():
    delta = 0.1 / 64
    assert binomial_rank(1000, 0.9, pointwise_delta(1000, delta)) == 64
    assert dkw_rank(1000, 0.9, delta) in (43, 44)
    assert binomial_rank(1000, 0.9, 0.1) == 88


def test_bounds_are_quantiles_of_order_statistics():
    bounds = rank_bounds(30, 0.02)
    assert (np.diff(bounds) > 0).all()
    for rank in (1, 7, 30):
        assert stats.beta.sf(bounds[rank - 1], rank, 31 - rank) == pytest.approx(0.02)
        assert stats.binom.cdf(rank - 1, 30, bounds[rank - 1]) == pytest.approx(0.02)


def test_bounds_that_reach_1_and_impossible_ones():
    assert probability_below_all(np.ones(50)) == pytest.approx(1, abs=1e-10)
    assert probability_below_all(np.array([0.0, 0.5, 1.0])) == 0
    assert probability_below_all(np.array([1e-200, 0.5, 1.0])) == pytest.approx(0, abs=1e-100)
