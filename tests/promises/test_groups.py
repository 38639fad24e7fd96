import numpy as np
import pytest

from conformask.errors import MismatchError
from conformask.promises.data import CalibrationData
from conformask.promises.order import largest_lambda
from conformask.promises.promise import Promise
from conformask.promises.rules import ConstantLambda
from promised import CONFIDENCE, Deploy, falls_short, goes_beyond
from simulation import simulated
from worlds import RANDOM, Fields, evidence_of


def in_new_groups(fields: Fields, deploy: Deploy, k: int, draws: int) -> np.ndarray:
    generator = np.random.default_rng(k)
    found = [fields.coverage_of_all(deploy(fields.evidence(generator, k)).lam) for _ in simulated(draws)]
    return np.array(found)


def without_the_new_group(evidence: CalibrationData) -> ConstantLambda:
    """Means over K groups, not K + 1."""
    _, group, count = np.unique(evidence.column("group"), return_inverse=True, return_counts=True)
    weights = 1 / len(count) / count[group]
    return ConstantLambda(largest_lambda(evidence.critical_lambdas, weights, 1 - CONFIDENCE))


@pytest.mark.quick(2)
@pytest.mark.parametrize("k", [12, 30, 100])
@pytest.mark.parametrize(
    "broken", [Promise("marginal", CONFIDENCE).rule, without_the_new_group], ids=["pooled", "K for K + 1"]
)
def test_the_judge_notices_broken_rules(broken: Deploy, k: int) -> None:
    fields = Fields.of(RANDOM["heavy_tailed"]())
    draws = 300 if k == 100 else 600
    if k < 100 or broken != without_the_new_group:
        assert falls_short(in_new_groups(fields, broken, k, draws), CONFIDENCE)
    assert not falls_short(in_new_groups(fields, Promise("groups", CONFIDENCE).rule, k, draws), CONFIDENCE)


def test_it_comes_near_the_confidence_with_many_groups() -> None:
    values = in_new_groups(Fields.of(RANDOM["heavy_tailed"]()), Promise("groups", CONFIDENCE).rule, 300, 100)
    assert not goes_beyond(values, CONFIDENCE + 2 / 301)


def test_groups_that_are_copies_count_once() -> None:
    """Pooled, n identical tiles of K slides are as if each lambda had n times the evidence."""
    generator = np.random.default_rng(0)
    pooled, grouped = [], []
    for _ in simulated(4000):
        slides = generator.random(15)
        evidence = evidence_of(np.repeat(slides, 10), group=np.repeat(np.arange(15).astype(str), 10))
        pooled.append(1 - Promise("marginal", CONFIDENCE).rule(evidence).lam)
        grouped.append(1 - Promise("groups", CONFIDENCE).rule(evidence).lam)
    assert falls_short(np.array(pooled), CONFIDENCE)
    assert np.mean(grouped) == pytest.approx(15 / 16, abs=0.005)


def test_one_image_a_group_is_marginal() -> None:
    generator = np.random.default_rng(1)
    for n in (1, 8, 9, 10, 19, 20, 99, 100, 257):
        names = np.arange(n).astype(str)
        for critical in (generator.random(n), generator.choice([0.0, 1.0, 2.0, np.inf], n)):
            for confidence in (0.5, 0.8, 0.9, 0.95):
                evidence = evidence_of(critical, group=names)
                assert Promise("groups", confidence).rule(evidence) == Promise("marginal", confidence).rule(
                    evidence
                )


def test_against_the_definition() -> None:
    generator = np.random.default_rng(2)
    for _ in range(200):
        k = int(generator.integers(5, 30))
        group = np.repeat(np.arange(k), generator.integers(1, 6, k))
        critical = generator.choice(np.linspace(0, 3, 7), len(group))
        count = np.bincount(group)

        def missed(lam: float, group: np.ndarray = group, critical: np.ndarray = critical) -> float:
            means = np.bincount(group, critical < lam) / np.bincount(group)
            return (means.sum() + 1) / (len(means) + 1)

        found = Promise("groups", 0.8).rule(evidence_of(critical, group=group.astype(str))).lam
        wanted = max((lam for lam in [*critical, np.inf] if missed(lam) <= 0.2 + 1e-9), default=0.0)
        assert found == wanted
        assert len(count) == k


def test_too_few() -> None:
    group = np.repeat(np.arange(8).astype(str), 100)
    assert Promise("groups", 0.9).rule(evidence_of(np.full(800, np.inf), group=group)).is_vacuous
    assert Promise("groups", 0.9).smallest_calibration_set(None, None) == 9
    with pytest.raises(MismatchError, match="no group"):
        Promise("groups", 0.9).rule(evidence_of(np.ones(20)))
