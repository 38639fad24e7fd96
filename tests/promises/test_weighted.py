"""Populations: other weights, and each category by itself."""

import math
from dataclasses import replace

import numpy as np
import pytest

from conformask.errors import InvalidArgumentError
from conformask.promises.axes import effective_sample_size
from conformask.promises.order import ROUNDING, ImageCovariates
from conformask.promises.promise import Promise
from conformask.promises.rules import CategoryLambda, WeightedLambda
from promised import breaks_coverage, coverage, falls_short, goes_beyond, simulated
from worlds import RANDOM, evidence_of


def reweighed(evidence, weight):
    return replace(evidence, curves=replace(evidence.curves, weight=weight))


class WithoutItsOwnWeight(WeightedLambda):
    """p_k = w_k / sum w: the new image's own share forgotten."""

    def __call__(self, facts):
        return super().__call__(replace(facts, weight=np.zeros(facts.n)))


def without_its_own_weight(evidence):
    return WithoutItsOwnWeight(**vars(Promise("weighted", 0.9).rule(evidence)))


def inverted(evidence):
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
def test_the_judge_notices_broken_weights(broken, n):
    world, draws = RANDOM["heavy_tailed"](), 1500
    assert breaks_coverage(world, broken, n, draws, tilted=True)
    assert not breaks_coverage(world, Promise("weighted", 0.9).rule, n, draws, tilted=True)


def test_it_is_tight_with_many_images():
    values = coverage(
        RANDOM["heavy_tailed"](), Promise("weighted", 0.9).rule, 1000, 200, tilted=True, tests=100
    )
    assert not goes_beyond(values, 0.9 + math.exp(1.5) / 1000 + 1e-3)


@pytest.mark.parametrize("weight", [0.1, 0.3, 0.7, 1.0])
def test_equal_weights_count_as_so_many_images(weight):
    """(9 * 0.7)^2 / (9 * 0.7^2) is 8.999999999999998 in floats."""
    assert Promise("weighted", 0.9).counted(9, {"weight": np.full(9, weight)})[0] == 9


def test_equal_weights_are_marginal():
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


def brute_force(critical, weights, own, confidence):
    total = weights.sum() + own

    def missed(lam):
        return (weights[critical < lam].sum() + own) / total

    kept = [lam for lam in [*critical, math.inf] if missed(lam) <= 1 - confidence + 1e-9]
    return max(kept, default=0.0)


def test_against_the_definition():
    generator = np.random.default_rng(1)
    for _ in range(300):
        n = int(generator.integers(1, 40))
        critical = generator.choice([0.0, 0.5, 1.0, 1.5, 2.0, math.inf], n)
        weights, own = generator.choice([0.1, 1.0, 3.0], n), generator.choice([0.0, 0.1, 1.0, 3.0, 50.0], 4)
        rule = Promise("weighted", 0.8).rule(evidence_of(critical, weight=weights))
        wanted = [brute_force(critical, weights, float(w), 0.8) for w in own]
        assert rule(ImageCovariates(4, weight=own)).tolist() == wanted


def test_the_heavier_the_smaller():
    generator = np.random.default_rng(2)
    rule = Promise("weighted", 0.9).rule(evidence_of(generator.random(200), weight=generator.random(200)))
    lam = rule(ImageCovariates(50, weight=np.linspace(0, 30, 50)))
    assert (np.diff(lam) <= 0).all()
    assert lam[0] > 0
    assert lam[-1] == 0
    assert len(rule.critical) < 60, "only what can be reached is stored"
    assert not rule.is_vacuous
    assert Promise("weighted", 0.9).rule(evidence_of(np.zeros(50), weight=np.ones(50))).is_vacuous


def test_effective_sample_size():
    assert effective_sample_size(np.full(40, 3.0)) == pytest.approx(40)
    assert effective_sample_size(np.array([1.0, 0, 0])) == 1
    assert effective_sample_size(np.array([2.0, 1.0])) == pytest.approx(9 / 5)


def test_a_budget_that_is_spent_exactly_is_not_exceeded():
    """Those below the third weigh just what is allowed: it is the largest lambda that keeps the promise."""
    confidence = 0.5 + ROUNDING
    assert (1 - confidence + ROUNDING) * 4 == 2.0, "in floats, too"
    rule = WeightedLambda.of(np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4), confidence)
    assert rule(ImageCovariates(1, np.zeros(1))) == [3.0]
    assert rule(ImageCovariates(1, np.full(1, 1e-3))) == [2.0]
    every = WeightedLambda((1.0, 2.0, 3.0, 4.0), (1.0, 2.0, 3.0, 4.0), 4.0, confidence)
    assert every(ImageCovariates(1, np.zeros(1))) == [3.0]


def mixed(evidence):
    """One lambda for all."""
    lam = Promise("marginal", 0.9).rule(evidence).lam
    return CategoryLambda(dict.fromkeys(np.unique(evidence.column("category")).tolist(), lam))


def swapped(evidence):
    """The lambda of the other category."""
    lambdas = Promise("categories", 0.9).rule(evidence).lambdas
    return CategoryLambda(dict(zip(lambdas, reversed(lambdas.values()), strict=True)))


def coverages(deploy, draws=3000, easy=60, hard=20):
    """Critical lambdas uniform, those of hard images a third as large; exact."""
    generator, found = np.random.default_rng(0), {"easy": [], "hard": []}
    category = np.repeat(["easy", "hard"], [easy, hard])
    scale = np.repeat([1.0, 1 / 3], [easy, hard])
    for _ in simulated(draws):
        rule = deploy(evidence_of(scale * generator.random(easy + hard), category=category))
        lam = rule(ImageCovariates(2, category=("easy", "hard")))
        found["easy"].append(1 - lam[0])
        found["hard"].append(max(0, 1 - 3 * lam[1]))
    return {name: np.array(values) for name, values in found.items()}


def test_every_category_keeps_its_promise_tightly():
    for name, values in coverages(Promise("categories", 0.9).rule).items():
        n = {"easy": 60, "hard": 20}[name]
        assert not falls_short(values, 0.9)
        assert not goes_beyond(values, 0.9 + 1 / (n + 1))


@pytest.mark.quick(1)
@pytest.mark.parametrize("broken", [mixed, swapped])
def test_the_judge_notices_mixed_categories(broken):
    values = coverages(broken)
    assert falls_short(values["hard"], 0.9)
    assert not falls_short(np.average(list(coverages(mixed).values()), axis=0, weights=[3, 1]), 0.9)


def test_one_category_is_marginal():
    generator = np.random.default_rng(1)
    for n in (5, 9, 20, 100):
        evidence = evidence_of(generator.random(n), category=np.full(n, "a"))
        assert Promise("categories", 0.9).rule(evidence).lambdas == {
            "a": Promise("marginal", 0.9).rule(evidence).lam
        }


def test_a_category_with_too_few_images_is_masked_and_makes_the_rule_void():
    evidence = evidence_of(np.full(17, np.inf), category=np.repeat(["a", "b"], [9, 8]))
    rule = Promise("categories", 0.9).rule(evidence)
    assert rule.lambdas == {"a": np.inf, "b": 0.0}
    assert rule.is_vacuous
    assert Promise("categories", 0.9).smallest_calibration_set(None, None) == 9
    np.testing.assert_array_equal(rule(ImageCovariates(3, category=("b", "a", "b"))), [0, np.inf, 0])


def test_an_unknown_category_is_refused_by_name():
    rule = CategoryLambda({"nuclei": 1.0, "actin": 2.0})
    with pytest.raises(
        InvalidArgumentError, match=r"'tubulin' was not calibrated; the calibrated categories are \['actin', "
    ):
        rule(ImageCovariates(2, category=("actin", "tubulin")))
