from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize

from conformask.promises.axes import quantile_regression
from conformask.promises.data import CalibrationData
from conformask.promises.promise import Promise
from conformask.promises.rules import (
    AdaptiveLambda,
    ConditionalLambda,
    ConditionalQuantile,
    ImageCovariates,
    Rule,
)
from promised import CONFIDENCE, falls_short, goes_beyond
from simulation import simulated
from worlds import GRID, RANDOM, evidence_of

WANTED = Promise("adaptive", CONFIDENCE)


def spread(n: int, f: int) -> np.ndarray:
    """Points that fill a cube, the same in every version of NumPy."""
    return np.sqrt(np.outer(np.arange(1, n + 1), [2, 3, 5][:f])) % 1


@pytest.mark.parametrize(
    ("n", "f", "confidence", "expected"),
    [
        (60, 1, 0.9, [0.361912589, 0.696181958, 1.027766302, 1.356729303, 1.683132164]),
        (60, 3, 0.9, [1.451253787, 2.034906861, 2.614454683, 3.195421731, 2.781374401]),
        (200, 2, 0.8, [0.972611252, 1.208210276, 1.440255602, 1.671730088, 1.902637926]),
    ],
)
def test_the_authors_own_package_agrees(n: int, f: int, confidence: float, expected: list[float]) -> None:
    """conditionalconformal 0.0.5: CondConf.predict(confidence, ..., randomize=False, exact=False)."""
    features, new = spread(n, f), spread(n + 5, f)[n:] + 0.05
    scores = features.sum(axis=1) + 3 * (np.sqrt(11 * np.arange(1, n + 1)) % 1) * features[:, 0]
    found = ConditionalQuantile(features, scores, confidence)(new)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-9)


def by_linear_program(features: np.ndarray, scores: np.ndarray, new: np.ndarray) -> float:
    """The price of the test point where it pulls with its whole weight; inf where nothing holds it."""
    n = len(scores)
    design, point = np.column_stack([np.ones(n), features]), np.append(1.0, new)
    equality = np.hstack([design, np.eye(n), -np.eye(n)])
    cost = np.concatenate([-CONFIDENCE * point, np.full(n, CONFIDENCE), np.full(n, 1 - CONFIDENCE)])
    bounds = [(None, None)] * len(point) + [(0, None)] * (2 * n)
    solution = optimize.linprog(cost, A_eq=equality, b_eq=scores, bounds=bounds, method="highs")
    return float(point @ solution.x[: len(point)]) if solution.status == 0 else np.inf


@pytest.mark.parametrize("seed", range(40))
def test_a_linear_program_agrees(seed: int) -> None:
    """With ties of scores and of features, scores at the ends, and images far from all others."""
    generator = np.random.default_rng(seed)
    n, f = int(generator.integers(10, 120)), seed % 5
    features = generator.normal(size=(n, f)).round(seed % 4)
    scores = generator.normal(size=n).round(seed // 4 % 4)
    scores[: n // 5 if seed % 3 == 0 else 0] = -100
    scores[-1 if seed % 5 == 0 else n :] = 100
    new = generator.normal(size=(7, f)).round(1)
    found = ConditionalQuantile(features, scores, CONFIDENCE)(new)
    np.testing.assert_allclose(found, [by_linear_program(features, scores, each) for each in new], atol=1e-5)


def without_the_test_point(evidence: CalibrationData) -> AdaptiveLambda:
    """The same regression of the calibration images alone."""
    logs = np.log(evidence.critical_lambdas)
    return AdaptiveLambda(quantile_regression(evidence.column("features"), logs, 1 - CONFIDENCE), 0.0)


def with_many_features(rule_of, n: int, draws: int, f: int = 5) -> np.ndarray:
    """Coverage, where the features say nothing and critical lambdas are log-normal."""
    generator, found = np.random.default_rng(n), np.empty(draws)
    for place in simulated(draws):
        features, critical = generator.normal(size=(n + 20, f)), np.exp(generator.normal(size=n + 20))
        rule = rule_of(evidence_of(critical[:n], features=features[:n]))
        found[place] = (rule(ImageCovariates(20, features=features[n:])) <= critical[n:]).mean()
    return found


@pytest.mark.thorough
def test_the_judge_notices_a_regression_without_the_test_point() -> None:
    assert falls_short(with_many_features(without_the_test_point, 60, 300), CONFIDENCE)
    right = with_many_features(WANTED.rule, 60, 600)
    assert not falls_short(right, CONFIDENCE)
    assert not goes_beyond(right, CONFIDENCE + 6 / 61)


@pytest.mark.quick(1)
@pytest.mark.parametrize("n", [30, 100])
def test_groups_in_the_span_keep_the_promise_each(n: int) -> None:
    """Indicators of groups as features: coverage is that of each group, though one lambda would miss one."""
    generator, kept, kept_by_one = np.random.default_rng(n), [], []
    for _ in simulated(600):
        hard = generator.random(n + 40) < 0.3
        critical = np.exp(generator.normal(size=n + 40) - 2 * hard)
        features = hard[:, None].astype(float)
        evidence = evidence_of(critical[:n], features=features[:n])
        facts = ImageCovariates(40, features=features[n:])
        for rule, rows in (
            (WANTED.rule(evidence), kept),
            (Promise("marginal", CONFIDENCE).rule(evidence), kept_by_one),
        ):
            met = rule(facts) <= critical[n:]
            rows.append([met[hard[n:] == group].mean() for group in (False, True)])
    for group in (0, 1):
        shares = np.array(kept)[:, group]
        assert not falls_short(shares, CONFIDENCE)
        assert not goes_beyond(shares, CONFIDENCE + 2 / (0.3 * n))
    assert falls_short(np.array(kept_by_one)[:, 1], CONFIDENCE)


def test_a_distance_that_is_not_monotone_is_only_ever_deployed_on_the_grid() -> None:
    """Between grid points nothing is known of it."""
    world = RANDOM["non_monotone"]()
    rule = WANTED.rule(world.evidence(np.arange(200)))
    lam = rule(world.facts(np.arange(1000, 3000)))
    assert np.isin(lam, GRID).all()
    assert len(np.unique(lam)) > 4
    off_grid = replace(rule, grid=None)(world.facts(np.arange(1000, 3000)))
    assert (lam <= off_grid * (1 + 1e-8)).all()


@pytest.mark.parametrize("monotone", [True, False])
def test_constant_features_are_marginal(monotone: bool) -> None:
    """Ties included: a lambda an ulp above the tied one would fail for all images that have it."""
    generator = np.random.default_rng(0)
    for n in (8, 9, 20, 100, 333):
        for critical in (generator.choice(GRID, n), generator.choice(GRID[3:6], n)):
            evidence = evidence_of(critical, features=np.full((n, 2), 1.7))
            evidence = replace(
                evidence,
                monotone=monotone,
                curves=replace(evidence.curves, grid=GRID, loss=np.zeros((n, 20))),
            )
            lam = WANTED.rule(evidence)(ImageCovariates(1, features=np.full((1, 2), 1.7)))[0]
            same = Promise("marginal", CONFIDENCE).rule(evidence).lam
            assert lam <= same
            assert lam == (pytest.approx(same, rel=1e-8) if monotone else same)


def test_the_ends() -> None:
    features = np.zeros((20, 1))
    three = ImageCovariates(3, features=np.array([[-1000.0], [0.0], [1000.0]]))
    for critical, lam in ((np.zeros(20), 0.0), (np.full(20, np.inf), 1e9)):
        for monotone in (True, False):
            evidence = replace(evidence_of(critical, features=features), monotone=monotone)
            rule = WANTED.rule(evidence)
            assert rule(three) == pytest.approx([lam] * 3), "a feature that is the same for all tells nothing"
            assert rule.is_vacuous == (lam == 0)
    assert WANTED.rule(evidence_of(np.ones(8), features=features[:8])).is_vacuous
    mixed = np.repeat([0.0, 1.0, np.inf], [1, 3, 16])
    assert WANTED.rule(evidence_of(mixed, features=features))(three) == pytest.approx([1.0] * 3)


def test_an_image_unlike_all_others_is_hidden() -> None:
    generator = np.random.default_rng(0)
    features, critical = generator.normal(size=(100, 1)), generator.lognormal(size=100)
    rule: Rule = WANTED.rule(evidence_of(critical, features=features))
    ordinary, far, broken = rule(ImageCovariates(3, features=np.array([[0.0], [40.0], [np.nan]])))
    assert ordinary > 0
    assert far == broken == 0
    assert isinstance(rule, ConditionalLambda)
    assert not rule.is_vacuous


def looks_tell(n: int, seed: int) -> tuple[CalibrationData, np.ndarray]:
    """Critical lambdas that shrink as the first feature grows."""
    generator = np.random.default_rng(seed)
    hardness = generator.normal(size=n)
    critical = np.exp(-1.0 * hardness + 0.3 * generator.normal(size=n)).clip(GRID[1], GRID[-2])
    return evidence_of(critical, features=np.column_stack([hardness, generator.normal(size=n)])), hardness


def test_hard_images_are_no_longer_sacrificed() -> None:
    calibration, (test, hardness) = looks_tell(1000, 1)[0], looks_tell(4000, 2)
    hardest = hardness > np.quantile(hardness, 0.8)
    facts = ImageCovariates(4000, features=test.column("features"))
    kept = [
        wanted.rule(calibration)(facts) <= test.critical_lambdas
        for wanted in (Promise("marginal", 0.9), WANTED)
    ]
    assert kept[0].mean() == pytest.approx(0.9, abs=0.03)
    assert kept[1].mean() == pytest.approx(0.9, abs=0.03)
    assert kept[0][hardest].mean() < 0.6
    assert kept[1][hardest].mean() > 0.85
