"""Agreement with software by other people, for the ranks and bounds that they get right.

Skipped where MAPIE or crepes is not installed: they are needed for nothing else
(pip install 'mapie==1.6.*' 'crepes==0.9.*').
"""

import math
import warnings

import numpy as np
import pytest

from conformask.promises.order import ImageCovariates
from conformask.promises.procedures import hoeffding_bentkus, waudby_smith_ramdas
from conformask.promises.promise import Promise
from worlds import GRID, RANDOM, THRESHOLD, World, evidence_of

SIZES = (5, 12, 25, 57, 100, 333, 1234)
CONFIDENCES = (0.5, 0.8, 0.9, 0.95)


def crepes_lambda(critical, confidence, **kwargs):
    """1 / lambda is the half width of an interval whose residuals are 1 / critical lambdas."""
    crepes = pytest.importorskip("crepes", reason="crepes, an independent implementation, is not installed")
    fit = {key: value for key, value in kwargs.items() if not key.startswith("test_")}
    test = {key.removeprefix("test_"): value for key, value in kwargs.items() if key.startswith("test_")}
    regressor = crepes.ConformalRegressor().fit(1 / critical, **fit)
    count = len(next(iter(test.values()))) if test else 1
    with warnings.catch_warnings(action="ignore"):
        intervals = regressor.predict_int(np.zeros(count), confidence=confidence, **test)
    return 1 / intervals[:, 1]


def whole(n, confidence):
    """Where (1 - confidence)(n + 1) is a whole number, which crepes takes one short in floats."""
    return abs(round((1 - confidence) * (n + 1)) - (1 - confidence) * (n + 1)) < 1e-6


@pytest.mark.parametrize("n", SIZES)
def test_marginal_is_crepes_standard_regressor(n):
    critical = np.random.default_rng(n).lognormal(size=n)
    for confidence in CONFIDENCES:
        if not whole(n, confidence):
            wanted = crepes_lambda(critical, confidence)[0]
            assert Promise("marginal", confidence).rule(evidence_of(critical)).lam == pytest.approx(
                wanted, rel=1e-12
            )


@pytest.mark.parametrize("n", SIZES)
def test_categories_are_crepes_mondrian_regressor(n):
    generator = np.random.default_rng(n)
    critical, category = generator.lognormal(size=n), generator.choice(["a", "b"], n, p=[0.4, 0.6])
    for confidence in CONFIDENCES:
        if not any(whole(int((category == name).sum()), confidence) for name in "ab"):
            wanted = crepes_lambda(critical, confidence, bins=category, test_bins=np.array(["a", "b"]))
            rule = Promise("categories", confidence).rule(evidence_of(critical, category=category))
            np.testing.assert_allclose(rule(ImageCovariates(2, category=("a", "b"))), wanted, rtol=1e-12)


@pytest.fixture(name="mapie")
def mapie_methods():
    return pytest.importorskip(
        "mapie.risk_control.methods", reason="MAPIE, an independent implementation, is not installed"
    )


@pytest.mark.parametrize("name", RANDOM)
def test_expected_is_mapies_conformal_risk_control(name, mapie):
    """Its upper bound is n / (n + 1) * mean + 1 / (n + 1); the grid without its ends."""
    world: World = RANDOM[name]()
    for n in (15, 40, 200, 1000):
        evidence = world.evidence(world.draw(np.random.default_rng(n), n))
        risks = evidence.risk()
        _, bound = mapie.get_r_hat_plus(risks, GRID, "crc", None, None, None)
        within = bound <= THRESHOLD
        wanted = GRID[len(within) - 1 if within.all() else max(int((~within).argmax()) - 1, 0)]
        assert Promise("expected").rule(evidence).lam == wanted


def test_hoeffding_bentkus_is_mapies_p_value(mapie):
    generator = np.random.default_rng(0)
    answers = []
    for _ in range(400):
        n, level = int(generator.integers(1, 300)), float(generator.uniform(0.05, 0.6))
        losses = generator.beta(0.3, 2, n) * generator.choice([0.0, 1.0], n)
        p_value = mapie.compute_hoeffding_bentkus_p_value(np.array([losses.mean()]), n, level)[0, 0]
        for delta in (0.2, 0.05):
            if abs(p_value / delta - 1) > 1e-6:
                answers.append(hoeffding_bentkus(losses, level, delta))
                assert answers[-1] == (p_value <= delta)
    assert 100 < sum(answers) < 700


@pytest.mark.parametrize("name", RANDOM)
def test_ltt_is_fixed_sequence_testing_of_mapies_binary_p_values(name, mapie):
    world: World = RANDOM[name]()
    for n in (30, 100, 1000):
        evidence = world.evidence(world.draw(np.random.default_rng(n), n))
        failing = (evidence.curves.loss > THRESHOLD * (1 + 1e-6)).mean(axis=0)
        p_values = mapie.compute_hoeffding_bentkus_p_value(failing, n, 0.1, binary=True)[:, 0]
        rejected = p_values[1:] <= 0.1
        wanted = GRID[len(rejected) if rejected.all() else int((~rejected).argmax())]
        assert Promise("ltt", 0.9, 0.1).rule(evidence).lam == wanted


def test_waudby_smith_ramdas_is_mapies_where_wealth_only_grows(mapie):
    """MAPIE 1.6 adds the highest wealths of two halves: right where the highest is the last."""
    levels = np.linspace(0, 1, 1001)
    for n in (20, 100, 400):
        for loss in (0.0, 0.01, 0.05):
            losses = np.full(n, loss)
            risks = np.repeat(losses[:, None], len(levels), axis=1)[:, :3]
            with warnings.catch_warnings(action="ignore"):
                bound = first_certified(mapie, risks, levels)
            ours = next(level for level in levels[1:] if waudby_smith_ramdas(losses, float(level), 0.1))
            assert ours == pytest.approx(bound, abs=1.5e-3)
    assert math.isclose(levels[1] - levels[0], 1e-3)


def first_certified(mapie, risks, levels):
    """MAPIE wants as many lambdas as levels."""
    repeated = np.repeat(risks[:, :1], len(levels), axis=1)[:, :101]
    for start in range(0, len(levels) - 100, 100):
        some = levels[start : start + 101]
        _, bound = mapie.get_r_hat_plus(repeated, some, "rcps", "wsr", 0.1, 0.25)
        if bound[0] < 1:
            return float(bound[0])
    return 1.0
