import numpy as np
import pytest
from scipy import stats

from conformask.promises.data import CalibrationData, Curves
from conformask.promises.order import binomial_rank, meets_threshold
from conformask.promises.promise import Promise
from conformask.promises.rules import ConstantLambda
from promised import Deploy, breaks_pac
from simulation import simulated
from worlds import GRID, RANDOM, THRESHOLD, World, constant_risk, evidence_of


def p_values(evidence: CalibrationData, forgiven: int = 0) -> np.ndarray:
    failures = (~meets_threshold(evidence.curves.loss, evidence.threshold)).sum(axis=0)
    return stats.binom.cdf(failures - forgiven, evidence.n, 0.1)


def best(evidence: CalibrationData) -> ConstantLambda:
    """The largest lambda whose own p-value is small, not the last of a sequence that never fails."""
    return ConstantLambda(float(GRID[np.flatnonzero(p_values(evidence) <= 0.1).max(initial=0)]))


def strict(evidence: CalibrationData) -> ConstantLambda:
    """P(Bin < failures) for P(Bin <= failures)."""
    small = p_values(evidence, forgiven=1) <= 0.1
    small[0] = True
    return ConstantLambda(float(GRID[(~small).argmax() - 1 if not small.all() else -1]))


def smallest_risk(evidence: CalibrationData) -> ConstantLambda:
    """Any lambda whose failure rate on the calibration images is small enough."""
    rate = (~meets_threshold(evidence.curves.loss, evidence.threshold)).mean(axis=0)
    return ConstantLambda(float(GRID[np.flatnonzero(rate <= 0.1).max()]))


@pytest.mark.quick(3)
@pytest.mark.parametrize("n", [20, 22, 50, 100, 1000])
@pytest.mark.parametrize("rate", [0.101, 0.13])
def test_hardest_worlds(n: int, rate: float) -> None:
    assert not breaks_pac(
        constant_risk(rate, 0.5), Promise("ltt", 0.9, 0.1).rule, n, 2000 if n < 1000 else 500
    )


@pytest.mark.parametrize(
    ("broken", "world", "n"),
    [
        (best, RANDOM["flickering"](), 100),
        (smallest_risk, RANDOM["flickering"](), 100),
        (strict, constant_risk(0.101, 0.5), 22),
        (smallest_risk, constant_risk(0.101, 0.5), 50),
    ],
)
def test_the_judge_notices_broken_tests(broken: Deploy, world: World, n: int) -> None:
    assert not breaks_pac(world, Promise("ltt", 0.9, 0.1).rule, n, 1000)
    assert breaks_pac(world, broken, n, 1000)


def test_it_is_tight_where_all_lambdas_are_alike() -> None:
    n, world = 60, constant_risk(0.101, 0.5)
    rule, generator, draws = Promise("ltt", 0.9, 0.1).rule, np.random.default_rng(0), 4000
    missed = np.mean([rule(world.evidence(world.draw(generator, n))).lam > 0 for _ in simulated(draws)])
    law = stats.binom.cdf(binomial_rank(n, 0.9, 0.1) - 1, n, 0.101)
    assert missed == pytest.approx(law, abs=4 * np.sqrt(law * (1 - law) / draws))


def curves_failing(counts: list[int], n: int = 100) -> CalibrationData:
    distance = np.where(np.arange(n)[:, None] < np.array(counts), 0.5, 0.0)
    grid = np.array([0.0, *range(1, len(counts) - 1), np.inf])
    curves = Curves(np.full(n, "image"), grid, distance, distance)
    return CalibrationData(THRESHOLD, np.zeros(n), curves, monotone=False)


def test_it_stops_before_the_first_failure() -> None:
    rule = Promise("ltt", 0.9, 0.05).rule
    allowed = binomial_rank(100, 0.9, 0.05) - 1
    assert rule(curves_failing([0, 0, allowed, allowed + 1, 0, 0])).lam == 2
    assert rule(curves_failing([0, allowed + 1, 0, 0, 0, 0])).is_vacuous
    assert rule(curves_failing([100, 1, 0, 2, 0, allowed])).lam == np.inf, "lambda 0 is valid by definition"
    assert rule(curves_failing([0, 0, 0, 0, 0, allowed + 1])).lam == 4


def test_on_monotone_curves_it_is_pac_on_the_grid() -> None:
    generator = np.random.default_rng(1)
    distance = np.maximum.accumulate(generator.random((100, len(GRID))) ** 30, axis=1)
    curves = Curves(np.full(100, "image"), GRID, distance, distance)
    for threshold in (0.3, 0.6, 0.9):
        failing = ~meets_threshold(distance, threshold)
        failing[:, 0] = False
        first = np.where(failing.any(axis=1), failing.argmax(axis=1), len(GRID)) - 1
        evidence = CalibrationData(threshold, GRID[np.maximum(first, 0)], curves)
        assert Promise("ltt", 0.9, 0.1).rule(evidence) == Promise("pac", 0.9, 0.1).rule(evidence)


def test_an_image_may_fail_below_and_pass_at_the_deployed_lambda() -> None:
    """Where failures never pile up at one lambda, ltt goes on and pac stops."""
    n = 100
    distance = np.zeros((n, 20))
    distance[np.arange(40), 1 + np.arange(40) % 18] = 0.5
    evidence = CalibrationData(
        THRESHOLD, np.where(np.arange(n) < 40, 0.0, np.inf), Curves(np.full(n, "i"), GRID, distance, distance)
    )
    assert Promise("ltt", 0.9, 0.1).rule(evidence).lam == np.inf
    assert Promise("pac", 0.9, 0.1).rule(evidence).is_vacuous


def test_too_few() -> None:
    assert Promise("ltt", 0.9, 0.05).smallest_calibration_set(None, None) == 29
    assert Promise("ltt", 0.9, 0.05).rule(curves_failing([0] * 5, 28)).is_vacuous
    assert Promise("ltt", 0.9, 0.05).rule(curves_failing([0] * 5, 29)).lam == np.inf
    assert Promise("ltt", 0.9, 0.05).rule(evidence_of(np.ones(29))).lam == np.inf
