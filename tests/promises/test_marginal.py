"""Coverage of one lambda: on average over calibration sets, and for nearly all of them."""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from conformask.promises.order import binomial_rank, coverage_range, smallest
from conformask.promises.promise import Promise
from conformask.promises.rules import ConstantLambda
from promised import breaks_coverage, breaks_pac, coverage, simulated
from worlds import RANDOM, evidence_of

DRAWS = 10_000
LEVELS = np.array([0.0, 0.1, 0.2, 0.4, math.inf])
SHARES = np.array([0.05, 0.08, 0.3, 0.27, 0.3])
Deploy = Callable[[np.ndarray], float]


def deployed(critical):
    return Promise("marginal", 0.9).rule(evidence_of(critical)).lam


def with_rank(rank):
    return lambda critical: float(np.sort(critical)[rank - 1]) if rank else 0.0


def uniform_coverage(n, deploy, seed=0):
    """Mean and sigma of P(lam_test >= lambda given the calibration set), critical lambdas uniform."""
    generator = np.random.default_rng(seed)
    coverage = np.array([1 - deploy(generator.random(n)) for _ in simulated(DRAWS)])
    return float(coverage.mean()), float(coverage.std() / math.sqrt(DRAWS))


def tied_coverage(n, deploy):
    """As uniform_coverage, with a few levels, 0 and inf among them; lambda = 0 always covers."""
    generator = np.random.default_rng(1)
    at_least = dict(zip(LEVELS.tolist(), SHARES[::-1].cumsum()[::-1].tolist(), strict=True))
    draws = [deploy(generator.choice(LEVELS, n, p=SHARES)) for _ in simulated(DRAWS)]
    coverage = np.array([at_least[lam] for lam in draws])
    return float(coverage.mean()), float(coverage.std() / math.sqrt(DRAWS))


@pytest.mark.quick(2)
@pytest.mark.parametrize("n", [9, 19, 20, 100, 1000])
def test_coverage_of_continuous_lambdas(n):
    mean, sigma = uniform_coverage(n, deployed)
    assert 0.9 - 4 * sigma <= mean <= 0.9 + 1 / (n + 1) + 4 * sigma
    rank = Fraction(n + 1, 10) // 1
    assert mean == pytest.approx(1 - rank / (n + 1), abs=4 * sigma)


@pytest.mark.quick(2)
@pytest.mark.parametrize("n", [9, 20, 100, 1000])
def test_coverage_with_ties(n):
    mean, sigma = tied_coverage(n, deployed)
    assert mean >= 0.9 - 4 * sigma


@pytest.mark.thorough
def test_the_bounds_catch_other_ranks():
    for n in (20, 100, 1000):
        torch_quantile = with_rank(n + 1 - math.ceil(0.9 * n))
        mean, sigma = uniform_coverage(n, torch_quantile)
        assert mean < 0.9 - 4 * sigma, "without + 1 the promise is kept?"
    for n in (20, 100, 1000):
        mean, sigma = uniform_coverage(n, with_rank(math.ceil(0.1 * (n + 1))))
        assert mean < 0.9 - 4 * sigma, "ceil instead of floor keeps the promise?"
    mean, sigma = uniform_coverage(1000, lambda critical: float(np.quantile(critical, 0.1)))
    assert mean < 0.9 - 4 * sigma, "the paper's interpolated quantile keeps the promise?"
    mean, sigma = uniform_coverage(20, with_rank(math.floor(0.1 * 21) - 1))
    assert mean > 0.9 + 1 / 21 + 4 * sigma, "a rank too few is as tight?"
    mean, sigma = uniform_coverage(29, with_rank(math.floor(0.1 * 29)))
    assert mean != pytest.approx(1 - 3 / 30, abs=4 * sigma), "n instead of n + 1 is as tight?"
    assert math.floor(0.1 * 9) == 0, "without + 1 nine images are void"
    assert math.floor((1 - 0.9) * 10) == 0, "without the guard floats make nine images void"
    mean, sigma = tied_coverage(20, lambda critical: LEVELS[deployed(critical) < LEVELS].min())
    assert mean < 0.9 - 4 * sigma, "the level above keeps the promise?"


BROKEN: dict[str, Deploy] = {
    "without + 1": lambda critical: with_rank(len(critical) + 1 - math.ceil(0.9 * len(critical)))(critical),
    "ceil for floor": lambda critical: with_rank(math.ceil(0.1 * (len(critical) + 1)))(critical),
    "interpolated quantile": lambda critical: float(np.quantile(critical.clip(0, 1e3), 0.1)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_judge_of_all_worlds_notices_a_wrong_rank(name):
    world, n = RANDOM["heavy_tailed"](), 25
    assert not breaks_coverage(world, Promise("marginal", 0.9).rule, n, 4000)
    assert breaks_coverage(
        world, lambda evidence: ConstantLambda(BROKEN[name](evidence.critical_lambdas)), n, 4000
    )


def test_the_judge_notices_a_family_that_opens_ties():
    """<= for <: the mask at a critical lambda already shows the pixels whose score it is."""
    world = RANDOM["flat"]()
    levels = np.unique(world.critical_lambdas)

    def with_ties(evidence):
        above = levels[levels > Promise("marginal", 0.9).rule(evidence).lam]
        return ConstantLambda(float(above.min(initial=math.inf)))

    assert not breaks_coverage(world, Promise("marginal", 0.9).rule, 30, 1000)
    assert breaks_coverage(world, with_ties, 30, 1000)


def test_coverage_follows_the_beta_binomial_law():
    n, tested = 20, 30
    generator = np.random.default_rng(2)
    counts = np.zeros(tested + 1)
    for _ in simulated(DRAWS):
        critical = generator.standard_cauchy(n + tested)
        counts[int((critical[n:] >= deployed(critical[:n])).sum())] += 1
    assert agrees(counts, stats.betabinom(tested, n + 1 - 2, 2)) > 1e-4
    assert agrees(counts, stats.betabinom(tested, n + 1 - 3, 3)) < 1e-9


def agrees(counts, law):
    expected = law.pmf(np.arange(len(counts))) * counts.sum()
    often = expected >= 10
    observed = [*counts[often], counts[~often].sum()]
    return float(stats.chisquare(observed, [*expected[often], expected[~often].sum()]).pvalue)


def test_too_few_images_mask_everything():
    few = Promise("marginal", 0.9).rule(evidence_of(np.full(8, math.inf)))
    assert few.lam == 0
    assert few.is_vacuous
    assert deployed(np.full(9, math.inf)) == math.inf
    assert Promise("marginal", 0.9).smallest_calibration_set(None, None) == 9
    assert coverage_range(8, Promise("marginal", 0.9).rank(8)) == (1, 1)


def test_the_rule_takes_an_order_statistic_in_any_order():
    critical = np.random.default_rng(3).permutation(np.arange(1.0, 41.0))
    assert deployed(critical) == 4
    assert deployed(critical[:20]) == sorted(critical[:20])[1]


def with_rank_off_by(step, delta=0.1):
    def deploy(evidence):
        rank = binomial_rank(evidence.n, 0.9, delta) + step
        return ConstantLambda(smallest(evidence.critical_lambdas, rank))

    return deploy


@pytest.mark.quick(2)
@pytest.mark.parametrize("n", [22, 50, 100, 1000])
@pytest.mark.parametrize("delta", [0.1, 0.01])
def test_misses_are_exactly_as_frequent_as_the_law_says(n, delta):
    """Continuous critical lambdas: P(Bin(n, 1 - confidence) <= j - 1), at most delta; rank j + 1 is above."""
    draws, rank = 4000, binomial_rank(n, 0.9, delta)
    uniform = np.sort(np.random.default_rng(n).random((draws, n)), axis=1)
    rules = [Promise("pac", 0.9, delta).rule(evidence_of(uniform[draw])) for draw in simulated(draws)]
    missed = np.mean([rule.lam > 0.1 for rule in rules])
    law = stats.binom.cdf(rank - 1, n, 0.1) if rank else 0.0
    assert law <= delta
    assert missed == pytest.approx(law, abs=4 * np.sqrt(law * (1 - law) / draws))
    assert stats.binom.cdf(rank, n, 0.1) > delta
    assert np.mean(uniform[:, rank] > 0.1) > delta


@pytest.mark.quick(1)
@pytest.mark.parametrize("n", [22, 100, 1000])
def test_the_judge_notices_broken_ranks(n):
    world, draws = RANDOM["heavy_tailed"](), 1500
    assert not breaks_pac(world, Promise("pac", 0.9, 0.1).rule, n, draws)
    assert breaks_pac(world, with_rank_off_by({22: 1, 100: 2, 1000: 3}[n]), n, draws)
    assert breaks_pac(world, Promise("marginal", 0.9).rule, n, draws), "the marginal promise is as strong?"


def test_it_is_tight():
    world, n, draws = RANDOM["heavy_tailed"](), 100, 3000
    law = stats.binom.cdf(5, n, 0.1)
    missed = np.mean(coverage(world, Promise("pac", 0.9, 0.1).rule, n, draws) < 0.9)
    assert missed == pytest.approx(law, abs=4 * np.sqrt(law * (1 - law) / draws) + 0.003)


def test_what_it_says_of_itself():
    made = Promise("pac", 0.9, 0.05)
    assert made.smallest_calibration_set(None, None) == 29
    assert made.rule(evidence_of(np.ones(28))).is_vacuous
    assert not made.rule(evidence_of(np.ones(29))).is_vacuous
    assert made.claim("l1", 0.02) == "with probability 0.95 over calibration sets, P(l1 <= 0.02) >= 0.90"
    low, high = coverage_range(1000, made.rank(1000))
    assert 0.9 - 1e-3 < low < 0.915 < high
    assert stats.beta.cdf(0.9, 1000 + 1 - 85, 85) <= 0.05
