import numpy as np
import pytest
from scipy import optimize

from conformask.promises.axes import LogLinear, quantile_regression, zero


def pinball(h: LogLinear, features: np.ndarray, target: np.ndarray, quantile: float) -> float:
    error = target - h(features)
    return float(np.maximum(quantile * error, (quantile - 1) * error).mean())


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("f", [1, 3])
def test_against_a_search(quantile: float, f: int) -> None:
    generator = np.random.default_rng(f)
    features = 100 + 5 * generator.normal(size=(200, f))
    target = features @ np.ones(f) + generator.standard_t(2, 200)
    found = pinball(quantile_regression(features, target, quantile), features, target, quantile)

    def loss(x: np.ndarray) -> float:
        return pinball(LogLinear(x[0], tuple((x[1:]).tolist())), features - 100, target, quantile)

    start = np.array([target.mean(), *np.ones(f)])
    searched = optimize.minimize(loss, start, method="Nelder-Mead", options={"maxiter": 4000, "fatol": 1e-10})
    assert found <= searched.fun + 1e-6
    assert found == pytest.approx(searched.fun, rel=1e-2)


def test_known_quantiles() -> None:
    """A constant feature leaves a plain quantile; the share below is the quantile."""
    generator = np.random.default_rng(0)
    target = generator.exponential(size=401)
    h = quantile_regression(np.full((401, 1), 3.0), target, 0.1)
    assert h(np.array([[3.0]]))[0] == pytest.approx(np.quantile(target, 0.1), abs=0.01)
    features = generator.normal(size=(1000, 2))
    target = 2 + features @ np.array([1.0, -3.0]) + (1 + 0.2 * features[:, 0]) * generator.normal(size=1000)
    h = quantile_regression(features, target, 0.1)
    assert np.mean(target < h(features)) == pytest.approx(0.1, abs=0.004)
    np.testing.assert_allclose(h.coefficients, [1 - 0.2 * 1.28, -3], atol=0.25)
    assert h.intercept == pytest.approx(2 - 1.28, abs=0.25)


def test_an_exact_line_is_found() -> None:
    features = np.random.default_rng(1).normal(size=(50, 2))
    h = quantile_regression(features, 1 + features @ np.array([2.0, -1.0]), 0.3)
    np.testing.assert_allclose([h.intercept, *h.coefficients], [1, 2, -1], atol=1e-9)


def test_doubled_features_do_no_harm() -> None:
    generator = np.random.default_rng(2)
    one, target = generator.normal(size=(100, 1)), generator.normal(size=100)
    single, double = (quantile_regression(x, target, 0.2) for x in (one, np.hstack([one, one])))
    assert pinball(single, one, target, 0.2) == pytest.approx(
        pinball(double, np.hstack([one, one]), target, 0.2)
    )


def test_constant() -> None:
    h = zero(np.ones((4, 3)))
    assert h(np.ones((2, 3))).tolist() == [0, 0]
