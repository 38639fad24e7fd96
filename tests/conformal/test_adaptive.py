from dataclasses import replace

import numpy as np
import pytest
from promises import CONFIDENCE, Deploy, breaks_coverage, falls_short, goes_beyond
from worlds import GRID, RANDOM, evidence_of

from conformask.conformal.calibration_data import CalibrationData
from conformask.conformal.lambdas import LogLinear, quantile_regression
from conformask.conformal.presets import adaptive, marginal
from conformask.conformal.rules import AdaptiveLambda, ImageCovariates
from simulation import simulated


def overfitted(evidence: CalibrationData) -> AdaptiveLambda:
    """h fitted to the calibration images themselves, from as many features as would be mad."""
    critical = evidence.critical_lambdas
    h = quantile_regression(evidence.column("features"), np.log(critical), 0.1)
    return adaptive(CONFIDENCE, h).rule(evidence)


def with_many_features(deploy: Deploy, n: int, draws: int, f: int = 8) -> np.ndarray:
    """Coverage, where the features say nothing and critical lambdas are log-normal."""
    generator, found = np.random.default_rng(n), np.empty(draws)
    for place in simulated(draws):
        features, critical = generator.normal(size=(n + 50, f)), np.exp(generator.normal(size=n + 50))
        rule = deploy(evidence_of(critical[:n], features=features[:n]))
        found[place] = (rule(ImageCovariates(50, features=features[n:])) <= critical[n:]).mean()
    return found


def test_the_judge_notices_an_h_that_saw_the_calibration_images() -> None:
    assert falls_short(with_many_features(overfitted, 30, 300), CONFIDENCE)
    elsewhere = adaptive(CONFIDENCE, LogLinear(0.3, tuple(np.linspace(-0.5, 0.5, 8).tolist())))
    right = with_many_features(elsewhere.rule, 30, 1500)
    assert not falls_short(right, CONFIDENCE)
    assert not goes_beyond(right, CONFIDENCE + 1 / 31)


@pytest.mark.parametrize("slope", [-3.0, 0.0, 0.5, 40.0])
@pytest.mark.parametrize("name", RANDOM)
def test_any_h_keeps_the_promise(name: str, slope: float) -> None:
    rule = adaptive(CONFIDENCE, LogLinear(-0.2, (slope, 1.0))).rule
    assert not breaks_coverage(RANDOM[name](), rule, 20, 600)


def test_a_distance_that_is_not_monotone_is_only_ever_deployed_on_the_grid() -> None:
    """Between grid points nothing is known of it."""
    world = RANDOM["non_monotone"]()
    rule = adaptive(CONFIDENCE, LogLinear(0.0, (-0.5, 0.1))).rule(world.evidence(np.arange(200)))
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
            for h in (LogLinear(0.0, (0.0, 0.0)), LogLinear(0.3, (-1.1, 0.7))):
                lam = adaptive(CONFIDENCE, h).rule(evidence)(
                    ImageCovariates(1, features=np.full((1, 2), 1.7))
                )[0]
                same = marginal(CONFIDENCE).rule(evidence).lam
                assert lam <= same
                assert lam == (pytest.approx(same, rel=1e-8) if monotone else same)


def test_it_never_exceeds_a_tied_critical_lambda() -> None:
    generator = np.random.default_rng(1)
    levels = generator.random(8)
    for _ in range(200):
        critical = generator.choice(levels, 40)
        evidence = evidence_of(critical, features=generator.normal(size=(40, 1)).round())
        rule = adaptive(CONFIDENCE, LogLinear(0.1, (0.7,))).rule(evidence)
        with np.errstate(divide="ignore"):
            s = np.log(critical) - rule.h(evidence.column("features"))
        at_the_rank = np.isclose(s, rule.shift, rtol=0, atol=1e-12)
        lam = rule(ImageCovariates(40, features=evidence.column("features")))
        assert (lam[at_the_rank] <= critical[at_the_rank]).all()


def test_the_ends() -> None:
    features = np.zeros((20, 1))
    h = LogLinear(0.5, (1.0,))
    three = ImageCovariates(3, features=np.array([[-1000.0], [0.0], [1000.0]]))
    for critical, lam in ((np.zeros(20), 0.0), (np.full(20, np.inf), np.inf)):
        for monotone in (True, False):
            evidence = replace(evidence_of(critical, features=features), monotone=monotone)
            rule = adaptive(CONFIDENCE, h).rule(evidence)
            assert rule(three).tolist() == [lam] * 3
            assert rule.is_vacuous == (lam == 0)
    mixed = np.repeat([0.0, 1.0, np.inf], [1, 3, 16])
    assert adaptive(CONFIDENCE, h).rule(evidence_of(mixed, features=features)).shift == -0.5
    few = adaptive(CONFIDENCE, h).rule(evidence_of(np.ones(8), features=features[:8]))
    assert few.is_vacuous
    with pytest.raises(ValueError, match="not fitted"):
        adaptive(CONFIDENCE).rule(evidence_of(np.ones(20), features=features))


def looks_tell(n: int, seed: int) -> tuple[CalibrationData, np.ndarray]:
    """Critical lambdas that shrink as the first feature grows, with curves that jump there."""
    generator = np.random.default_rng(seed)
    hardness = generator.normal(size=n)
    critical = np.exp(-1.0 * hardness + 0.3 * generator.normal(size=n)).clip(GRID[1], GRID[-2])
    curves = np.where(critical[:, None] < GRID, 2.0, 0.0)
    evidence = evidence_of(critical, features=np.column_stack([hardness, generator.normal(size=n)]))
    stored = replace(evidence.curves, grid=GRID, loss=curves, size=curves)
    return replace(evidence, curves=stored), hardness


def test_h_is_fitted_where_there_are_enough_images() -> None:
    assert adaptive(CONFIDENCE).fit_on_selection(looks_tell(25, 0)[0], 100).lam.h == LogLinear(
        0.0, (0.0, 0.0)
    )
    fitted = adaptive(CONFIDENCE).fit_on_selection(looks_tell(500, 0)[0], 100).lam.h
    assert fitted is not None
    np.testing.assert_allclose(fitted.coefficients, [-1, 0], atol=0.15)
    evidence = looks_tell(500, 0)[0]
    below = np.log(evidence.critical_lambdas) < fitted(evidence.column("features"))
    assert below.mean() == pytest.approx(1 - CONFIDENCE, abs=0.03), "the quantile that the promise may lose"


def test_hard_images_are_no_longer_sacrificed() -> None:
    calibration, (test, hardness) = looks_tell(2000, 1)[0], looks_tell(4000, 2)
    hardest = hardness > np.quantile(hardness, 0.8)
    facts = ImageCovariates(4000, features=test.column("features"))
    fitted = adaptive(CONFIDENCE).fit_on_selection(looks_tell(500, 0)[0], 2000)
    kept = [wanted.rule(calibration)(facts) <= test.critical_lambdas for wanted in (marginal(0.9), fitted)]
    assert kept[0].mean() == pytest.approx(0.9, abs=0.03)
    assert kept[1].mean() == pytest.approx(0.9, abs=0.03)
    assert kept[0][hardest].mean() < 0.6
    assert kept[1][hardest].mean() > 0.85
