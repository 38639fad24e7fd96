import numpy as np
import pytest

from conformask.errors import InvalidArgumentError
from conformask.promises.data import CalibrationData
from conformask.promises.promise import Promise
from conformask.promises.rules import CategoryLambda, ImageCovariates, Rule
from promised import falls_short, goes_beyond
from simulation import simulated
from worlds import evidence_of


def mixed(evidence: CalibrationData) -> Rule:
    """One lambda for all."""
    lam = Promise("marginal", 0.9).rule(evidence).lam
    return CategoryLambda(dict.fromkeys(np.unique(evidence.column("category")).tolist(), lam))


def swapped(evidence: CalibrationData) -> Rule:
    """The lambda of the other category."""
    lambdas = Promise("categories", 0.9).rule(evidence).lambdas
    return CategoryLambda(dict(zip(lambdas, reversed(lambdas.values()), strict=True)))


def coverages(deploy, draws: int = 3000, easy: int = 60, hard: int = 20) -> dict[str, np.ndarray]:
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


def test_every_category_keeps_its_promise_tightly() -> None:
    for name, values in coverages(Promise("categories", 0.9).rule).items():
        n = {"easy": 60, "hard": 20}[name]
        assert not falls_short(values, 0.9)
        assert not goes_beyond(values, 0.9 + 1 / (n + 1))


@pytest.mark.quick(1)
@pytest.mark.parametrize("broken", [mixed, swapped])
def test_the_judge_notices_mixed_categories(broken) -> None:
    values = coverages(broken)
    assert falls_short(values["hard"], 0.9)
    assert not falls_short(np.average(list(coverages(mixed).values()), axis=0, weights=[3, 1]), 0.9)


def test_one_category_is_marginal() -> None:
    generator = np.random.default_rng(1)
    for n in (5, 9, 20, 100):
        evidence = evidence_of(generator.random(n), category=np.full(n, "a"))
        assert Promise("categories", 0.9).rule(evidence).lambdas == {
            "a": Promise("marginal", 0.9).rule(evidence).lam
        }


def test_a_category_with_too_few_images_is_masked_and_makes_the_rule_void() -> None:
    evidence = evidence_of(np.full(17, np.inf), category=np.repeat(["a", "b"], [9, 8]))
    rule = Promise("categories", 0.9).rule(evidence)
    assert rule.lambdas == {"a": np.inf, "b": 0.0}
    assert rule.is_vacuous
    assert Promise("categories", 0.9).smallest_calibration_set(None, None) == 9
    np.testing.assert_array_equal(rule(ImageCovariates(3, category=("b", "a", "b"))), [0, np.inf, 0])


def test_an_unknown_category_is_refused_by_name() -> None:
    rule = CategoryLambda({"nuclei": 1.0, "actin": 2.0})
    with pytest.raises(
        InvalidArgumentError, match=r"'tubulin' was not calibrated; the calibrated categories are \['actin', "
    ):
        rule(ImageCovariates(2, category=("actin", "tubulin")))
