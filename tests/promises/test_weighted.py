import math
from dataclasses import replace

import numpy as np
import pytest

from conformask.promises.axes import effective_sample_size
from conformask.promises.data import CalibrationData
from conformask.promises.order import ROUNDING
from conformask.promises.promise import Promise
from conformask.promises.rules import ImageCovariates, WeightedLambda
from promised import Deploy, breaks_coverage, coverage, goes_beyond
from worlds import RANDOM, evidence_of


def reweighed(evidence: CalibrationData, weight: np.ndarray) -> CalibrationData:
    return replace(evidence, curves=replace(evidence.curves, weight=weight))


class WithoutItsOwnWeight(WeightedLambda):
    """p_k = w_k / sum w: the new image's own share forgotten."""

    def __call__(self, facts: ImageCovariates) -> np.ndarray:
        return super().__call__(replace(facts, weight=np.zeros(facts.n)))


def without_its_own_weight(evidence: CalibrationData) -> WeightedLambda:
    return WithoutItsOwnWeight(**vars(Promise("weighted", 0.9).rule(evidence)))


def inverted(evidence: CalibrationData) -> WeightedLambda:
    return Promise("weighted", 0.9).rule(reweighed(evidence, 1 / evidence.column("weight")))


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("broken", "n"),
    [
        (without_its_own_weight, 9),
        (without_its_own_weight, 20),
        (Promise("marginal", 0.9).rule, 100),
        (inverted, 100),
    ],
    ids=["own weight ignored, 9", "own weight ignored, 20", "weights ignored", "weights inverted"],
)
def test_the_judge_notices_broken_weights(broken: Deploy, n: int) -> None:
    world, draws = RANDOM["heavy_tailed"](), 1500
    assert breaks_coverage(world, broken, n, draws, tilted=True)
    assert not breaks_coverage(world, Promise("weighted", 0.9).rule, n, draws, tilted=True)


def test_it_is_tight_with_many_images() -> None:
    values = coverage(
        RANDOM["heavy_tailed"](), Promise("weighted", 0.9).rule, 1000, 200, tilted=True, tests=100
    )
    assert not goes_beyond(values, 0.9 + math.exp(1.5) / 1000 + 1e-3)


@pytest.mark.parametrize("weight", [0.1, 0.3, 0.7, 1.0])
def test_equal_weights_count_as_so_many_images(weight: float) -> None:
    """(9 * 0.7)^2 / (9 * 0.7^2) is 8.999999999999998 in floats."""
    assert Promise("weighted", 0.9).counted(9, {"weight": np.full(9, weight)})[0] == 9


def test_equal_weights_are_marginal() -> None:
    generator = np.random.default_rng(0)
    for n in (1, 8, 9, 19, 20, 99, 100, 317):
        for weight in (1.0, 0.3, 7e5):
            for critical in (generator.random(n), generator.choice([0.0, 1.0, np.inf], n)):
                for confidence in (0.5, 0.8, 0.9):
                    evidence = evidence_of(critical, weight=np.full(n, weight))
                    found = Promise("weighted", confidence).rule(evidence)(
                        ImageCovariates(2, weight=np.full(2, weight))
                    )
                    assert found.tolist() == [Promise("marginal", confidence).rule(evidence).lam] * 2


def brute_force(critical: np.ndarray, weights: np.ndarray, own: float, confidence: float) -> float:
    total = weights.sum() + own

    def missed(lam: float) -> float:
        return (weights[critical < lam].sum() + own) / total

    kept = [lam for lam in [*critical, math.inf] if missed(lam) <= 1 - confidence + 1e-9]
    return max(kept, default=0.0)


def test_against_the_definition() -> None:
    generator = np.random.default_rng(1)
    for _ in range(300):
        n = int(generator.integers(1, 40))
        critical = generator.choice([0.0, 0.5, 1.0, 1.5, 2.0, math.inf], n)
        weights, own = generator.choice([0.1, 1.0, 3.0], n), generator.choice([0.0, 0.1, 1.0, 3.0, 50.0], 4)
        rule = Promise("weighted", 0.8).rule(evidence_of(critical, weight=weights))
        wanted = [brute_force(critical, weights, float(w), 0.8) for w in own]
        assert rule(ImageCovariates(4, weight=own)).tolist() == wanted


def test_the_heavier_the_smaller() -> None:
    generator = np.random.default_rng(2)
    rule = Promise("weighted", 0.9).rule(evidence_of(generator.random(200), weight=generator.random(200)))
    lam = rule(ImageCovariates(50, weight=np.linspace(0, 30, 50)))
    assert (np.diff(lam) <= 0).all()
    assert lam[0] > 0
    assert lam[-1] == 0
    assert len(rule.critical) < 60, "only what can be reached is stored"
    assert not rule.is_vacuous
    assert Promise("weighted", 0.9).rule(evidence_of(np.zeros(50), weight=np.ones(50))).is_vacuous


def test_effective_sample_size() -> None:
    assert effective_sample_size(np.full(40, 3.0)) == pytest.approx(40)
    assert effective_sample_size(np.array([1.0, 0, 0])) == 1
    assert effective_sample_size(np.array([2.0, 1.0])) == pytest.approx(9 / 5)


def test_a_budget_that_is_spent_exactly_is_not_exceeded() -> None:
    """Those below the third weigh just what is allowed: it is the largest lambda that keeps the promise."""
    confidence = 0.5 + ROUNDING
    assert (1 - confidence + ROUNDING) * 4 == 2.0, "in floats, too"
    rule = WeightedLambda.of(np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4), confidence)
    assert rule(ImageCovariates(1, np.zeros(1))) == [3.0]
    assert rule(ImageCovariates(1, np.full(1, 1e-3))) == [2.0]
    every = WeightedLambda((1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0, 4.0), 4.0, confidence)
    assert every(ImageCovariates(1, np.zeros(1))) == [3.0]
