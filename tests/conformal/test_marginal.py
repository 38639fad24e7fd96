"""Coverage of the marginal rule; 4 sigma of the Monte Carlo is allowed everywhere."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from conformask.conformal.guarantees import GUARANTEES, guarantee
from conformask.conformal.marginal import Marginal, marginal_rank, smallest_calibration_set
from conformask.conformal.rules import ConstantLambda, rule_from_json
from conformask.errors import InvalidArgumentError, MismatchError
from conformask.types import Facts

DRAWS = 10_000
LEVELS = np.array([0.0, 0.1, 0.2, 0.4, math.inf])
SHARES = np.array([0.05, 0.08, 0.3, 0.27, 0.3])
Deploy = Callable[[np.ndarray], float]


def deployed(critical: np.ndarray) -> float:
    return Marginal(0.9).rule(critical).lam


def with_rank(rank: int) -> Deploy:
    return lambda critical: float(np.sort(critical)[rank - 1]) if rank else 0.0


def uniform_coverage(n: int, deploy: Deploy, seed: int = 0) -> tuple[float, float]:
    """Mean and sigma of P(lam_test >= lambda given the calibration set), critical lambdas uniform."""
    generator = np.random.default_rng(seed)
    coverage = np.array([1 - deploy(generator.random(n)) for _ in range(DRAWS)])
    return float(coverage.mean()), float(coverage.std() / math.sqrt(DRAWS))


def tied_coverage(n: int, deploy: Deploy) -> tuple[float, float]:
    """As uniform_coverage, with a few levels, 0 and inf among them; lambda = 0 always covers."""
    generator = np.random.default_rng(1)
    at_least = dict(zip(LEVELS.tolist(), SHARES[::-1].cumsum()[::-1].tolist(), strict=True))
    draws = [deploy(generator.choice(LEVELS, n, p=SHARES)) for _ in range(DRAWS)]
    coverage = np.array([at_least[lam] for lam in draws])
    return float(coverage.mean()), float(coverage.std() / math.sqrt(DRAWS))


@pytest.mark.parametrize("n", [9, 19, 20, 100, 1000])
def test_coverage_of_continuous_lambdas(n: int) -> None:
    mean, sigma = uniform_coverage(n, deployed)
    assert 0.9 - 4 * sigma <= mean <= 0.9 + 1 / (n + 1) + 4 * sigma
    rank = Fraction(n + 1, 10) // 1
    assert mean == pytest.approx(1 - rank / (n + 1), abs=4 * sigma)


@pytest.mark.parametrize("n", [9, 20, 100, 1000])
def test_coverage_with_ties(n: int) -> None:
    mean, sigma = tied_coverage(n, deployed)
    assert mean >= 0.9 - 4 * sigma


def test_the_bounds_catch_other_ranks() -> None:
    for n in (20, 100, 1000):
        mean, sigma = uniform_coverage(n, with_rank(math.ceil(0.1 * (n + 1))))
        assert mean < 0.9 - 4 * sigma, "ceil instead of floor keeps the promise?"
    mean, sigma = uniform_coverage(1000, lambda critical: float(np.quantile(critical, 0.1)))
    assert mean < 0.9 - 4 * sigma, "the paper's interpolated quantile keeps the promise?"
    mean, sigma = uniform_coverage(20, with_rank(math.floor(0.1 * 21) - 1))
    assert mean > 0.9 + 1 / 21 + 4 * sigma, "a rank too few is as tight?"
    assert math.floor(0.1 * 9) == 0, "without + 1 nine images are void"
    assert math.floor((1 - 0.9) * 10) == 0, "without the guard floats make nine images void"
    mean, sigma = tied_coverage(20, lambda critical: LEVELS[deployed(critical) < LEVELS].min())
    assert mean < 0.9 - 4 * sigma, "the level above keeps the promise?"


def test_coverage_follows_the_beta_binomial_law() -> None:
    n, tested = 20, 30
    generator = np.random.default_rng(2)
    counts = np.zeros(tested + 1)
    for _ in range(DRAWS):
        critical = generator.standard_cauchy(n + tested)
        counts[int((critical[n:] >= deployed(critical[:n])).sum())] += 1
    assert agrees(counts, stats.betabinom(tested, n + 1 - 2, 2)) > 1e-4
    assert agrees(counts, stats.betabinom(tested, n + 1 - 3, 3)) < 1e-9


def agrees(counts: np.ndarray, law: stats.rv_discrete) -> float:
    expected = law.pmf(np.arange(len(counts))) * counts.sum()
    often = expected >= 10
    observed = [*counts[often], counts[~often].sum()]
    return float(stats.chisquare(observed, [*expected[often], expected[~often].sum()]).pvalue)


def test_ranks_against_fractions() -> None:
    for hundredths in range(1, 100):
        confidence = Fraction(hundredths, 100)
        enough = next(n for n in range(1, 200) if Fraction(1, n + 1) <= 1 - confidence)
        assert smallest_calibration_set(hundredths / 100) == enough
        for n in (*range(1, 60), 99, 100, 399, 999, 1000):
            rank = max(j for j in range(n + 1) if Fraction(j, n + 1) <= 1 - confidence)
            assert marginal_rank(n, hundredths / 100) == rank


def test_known_ranks() -> None:
    assert marginal_rank(9, 0.9) == 1
    assert marginal_rank(8, 0.9) == 0
    assert marginal_rank(1000, 0.9) == 100
    assert [smallest_calibration_set(c) for c in (0.9, 0.95, 0.99, 0.5)] == [9, 19, 99, 1]


def test_too_few_images_mask_everything() -> None:
    assert Marginal(0.9).rule(np.full(8, math.inf)).lam == 0
    assert Marginal(0.9).rule(np.full(9, math.inf)).lam == math.inf
    assert Marginal(0.9).smallest_calibration_set() == 9


def test_the_rule_takes_an_order_statistic_in_any_order() -> None:
    critical = np.random.default_rng(3).permutation(np.arange(1.0, 41.0))
    assert Marginal(0.9).rule(critical).lam == 4
    assert Marginal(0.9).rule(critical[:20]).lam == sorted(critical[:20])[1]


@pytest.mark.parametrize("lam", [0.0, 0.25, math.inf])
def test_rules_are_json(lam: float) -> None:
    rule = ConstantLambda(lam)
    again = rule_from_json({"kind": "constant", "lam": "inf" if math.isinf(lam) else lam})
    assert again == rule
    np.testing.assert_array_equal(again(Facts(n=3)), [lam] * 3)
    assert rule.to_json() == {"kind": "constant", "lam": lam}


def test_what_is_refused() -> None:
    with pytest.raises(MismatchError, match="upgrade"):
        rule_from_json({"kind": "oracle"})
    for confidence in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(InvalidArgumentError, match="between 0 and 1"):
            guarantee("marginal", confidence)
    with pytest.raises(InvalidArgumentError, match="did you mean 'marginal'"):
        guarantee("margnal", 0.9)
    assert all(guarantee(name, 0.8).confidence == 0.8 for name in GUARANTEES)
