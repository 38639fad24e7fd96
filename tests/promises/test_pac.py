import numpy as np
import pytest
from scipy import stats

from conformask.promises.data import CalibrationData
from conformask.promises.order import binomial_rank, coverage_range, smallest
from conformask.promises.promise import Promise
from conformask.promises.rules import ConstantLambda
from promised import Deploy, breaks_pac, coverage
from simulation import simulated
from worlds import RANDOM, evidence_of


def with_rank_off_by(step: int, delta: float = 0.1) -> Deploy:
    def deploy(evidence: CalibrationData) -> ConstantLambda:
        rank = binomial_rank(evidence.n, 0.9, delta) + step
        return ConstantLambda(smallest(evidence.critical_lambdas, rank))

    return deploy


@pytest.mark.quick(2)
@pytest.mark.parametrize("n", [22, 50, 100, 1000])
@pytest.mark.parametrize("delta", [0.1, 0.01])
def test_misses_are_exactly_as_frequent_as_the_law_says(n: int, delta: float) -> None:
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
def test_the_judge_notices_broken_ranks(n: int) -> None:
    world, draws = RANDOM["heavy_tailed"](), 1500
    assert not breaks_pac(world, Promise("pac", 0.9, 0.1).rule, n, draws)
    assert breaks_pac(world, with_rank_off_by({22: 1, 100: 2, 1000: 3}[n]), n, draws)
    assert breaks_pac(world, Promise("marginal", 0.9).rule, n, draws), "the marginal promise is as strong?"


def test_it_is_tight() -> None:
    world, n, draws = RANDOM["heavy_tailed"](), 100, 3000
    law = stats.binom.cdf(5, n, 0.1)
    missed = np.mean(coverage(world, Promise("pac", 0.9, 0.1).rule, n, draws) < 0.9)
    assert missed == pytest.approx(law, abs=4 * np.sqrt(law * (1 - law) / draws) + 0.003)


def test_what_it_says_of_itself() -> None:
    made = Promise("pac", 0.9, 0.05)
    assert made.smallest_calibration_set(None, None) == 29
    assert made.rule(evidence_of(np.ones(28))).is_vacuous
    assert not made.rule(evidence_of(np.ones(29))).is_vacuous
    assert made.claim("l1", 0.02) == "with probability 0.95 over calibration sets, P(l1 <= 0.02) >= 0.90"
    low, high = coverage_range(1000, made.rank(1000))
    assert 0.9 - 1e-3 < low < 0.915 < high
    assert stats.beta.cdf(0.9, 1000 + 1 - 85, 85) <= 0.05
