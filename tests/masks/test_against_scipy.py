import numpy as np
import pytest
import torch
from scipy.optimize import brentq, linprog, minimize

from conformask.masks.families import Power, Reciprocal, TrustedMean, WaterFilling
from conformask.masks.kernels import LARGE, ascending_of, medians, places_of

SEEDS = range(5)


def images(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32)).reshape(1, 1, 1, -1)


def problem(seed: int, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    score, error = generator.lognormal(-3, 1, n), generator.lognormal(-3, 1, n)
    return score.astype(np.float32).astype(float), error.astype(np.float32).astype(float)


def filled(score: np.ndarray, exponent: float, budget: float) -> np.ndarray:
    family, lam = WaterFilling(exponent, kappa=0.0), torch.tensor([budget], dtype=torch.float64)
    mask: np.ndarray = (
        family.apply(images(score), family.level(images(score), lam)).double().flatten().numpy()
    )
    return mask


@pytest.mark.parametrize("seed", SEEDS)
def test_p1_is_the_linear_program(seed: int) -> None:
    score, _ = problem(seed)
    budget = 0.3 * score.mean()
    best = linprog(-np.ones(score.size), A_ub=score[None] / score.size, b_ub=[budget], bounds=(0, 1))
    np.testing.assert_allclose(filled(score, 1.0, budget), best.x, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_trusted_mean_is_the_linear_program(seed: int) -> None:
    score, _ = problem(seed)
    budget = 0.5 * score.mean()
    best = linprog(-np.ones(score.size), A_ub=(score - budget)[None], b_ub=[0.0], bounds=(0, 1))
    family, lam = TrustedMean(kappa=0.0), torch.tensor([budget], dtype=torch.float64)
    found = family.apply(images(score), family.level(images(score), lam)).flatten().numpy()
    np.testing.assert_allclose(found, best.x, atol=1e-6)


@pytest.mark.parametrize("exponent", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_p_above_1_is_the_convex_optimum(seed: int, exponent: float) -> None:
    score, _ = problem(seed, 12)
    budget = 0.4 * score.mean()
    within = {
        "type": "ineq",
        "fun": lambda m: 1 - np.mean(m**exponent * score) / budget,
        "jac": lambda m: -exponent * m ** (exponent - 1) * score / score.size / budget,
    }
    start, bounds = np.full(score.size, 0.1), [(0, 1)] * score.size
    best = minimize(
        lambda m: -m.sum(), start, jac=lambda m: -np.ones(m.size), bounds=bounds, constraints=[within],
        method="SLSQP", options={"ftol": 1e-12, "maxiter": 500},
    )  # fmt: skip
    ours = filled(score, exponent, budget)
    assert ours.sum() == pytest.approx(-best.fun, rel=1e-5)
    np.testing.assert_allclose(ours, best.x, atol=1e-3)


@pytest.mark.parametrize("exponent", [1.0, 1.7, 2.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_reciprocal_newton_is_the_root(seed: int, exponent: float) -> None:
    score, error = problem(seed, 5000)
    threshold = 0.4 * error.mean()

    def excess(lam: float) -> float:
        return float(np.mean(np.minimum(1, lam / (1e-3 + score)) ** exponent * error) - threshold)

    found = Reciprocal().critical_lambda(images(score), images(error), exponent, threshold)
    assert float(found[0]) == pytest.approx(brentq(excess, 1e-9, 10, xtol=1e-15, rtol=1e-13), rel=1e-11)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 4.0, 10.0])
@pytest.mark.parametrize("exponent", [1.0, 1.7, 2.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_power_critical_lambda_is_the_root(seed: int, exponent: float, gamma: float) -> None:
    score, error = problem(seed, 5000)
    threshold = 0.4 * error.mean()

    def excess(lam: float) -> float:
        mask = np.minimum(1, lam / (1e-3 + score)) ** gamma
        return float(np.mean(mask**exponent * error) - threshold)

    found = Power(gamma, kappa=0.0).critical_lambda(images(score), images(error), exponent, threshold)
    assert float(found[0]) == pytest.approx(brentq(excess, 1e-9, 10, xtol=1e-15, rtol=1e-13), rel=1e-11)


@pytest.mark.parametrize("exponent", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_water_filling_critical_lambda_is_the_root(seed: int, exponent: float) -> None:
    score, error = problem(seed, 5000)
    threshold = 0.4 * error.mean()

    def excess(sigma: float) -> float:
        return float(np.mean(np.minimum(1, sigma / score) ** (exponent / 0.7) * error) - threshold)

    sigma = brentq(excess, 1e-9, 10, xtol=1e-15, rtol=1e-13)
    budget = np.mean(np.minimum(1, sigma / score) ** (1.7 / 0.7) * score)
    found = WaterFilling(1.7, kappa=0.0).critical_lambda(images(score), images(error), exponent, threshold)
    assert float(found[0]) == pytest.approx(budget, rel=1e-9)


@pytest.mark.parametrize("distinct", [4, 5000])
@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_selection_is_a_full_sort(distinct: int, exponent: float) -> None:
    generator = np.random.default_rng(0)
    score = (
        (np.floor(generator.lognormal(-1, 2, 5000) * distinct) / distinct).astype(np.float32).astype(float)
    )
    error = generator.exponential(size=5000).astype(np.float32).astype(float)
    order = np.argsort(score)
    for threshold in (0.01, 0.5, 0.9):
        goal = threshold * error.sum()
        boundary = score[order][np.searchsorted(np.cumsum(error[order]), goal, side="right")]
        below, at = score < boundary, score == boundary
        fraction = ((goal - error[below].sum()) / error[at].sum()) ** (1 / exponent)
        expected = (score[below].sum() + max(0, fraction) * score[at].sum()) / score.size
        found = WaterFilling(1.0, kappa=0.0).critical_lambda(
            images(score), images(error), exponent, threshold * error.mean()
        )
        assert float(found[0]) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("misled", [slice(0, 64), slice(64, 1024)])
@pytest.mark.parametrize("exponent", [1.0, 1.7, 2.0])
def test_newton_recovers_from_any_guess(exponent: float, misled: slice) -> None:
    score, error = problem(0, 8192)
    error.reshape(-1, 1024)[:, misled] *= 1e-6
    threshold = 0.5 * error.mean()

    def excess(lam: float) -> float:
        return float(np.mean(np.minimum(1, lam / (1e-3 + score)) ** exponent * error) - threshold)

    found = Reciprocal().critical_lambda(images(score), images(error), exponent, threshold)
    assert float(found[0]) == pytest.approx(brentq(excess, 1e-9, 10, xtol=1e-15, rtol=1e-13), rel=1e-8)


@pytest.mark.thorough
@pytest.mark.parametrize("ties", [False, True])
def test_an_image_too_large_to_copy(ties: bool) -> None:
    """Beyond LARGE pixels the kernel reads again instead of copying; the answer is that of a sort."""
    generator = np.random.default_rng(0)
    score = generator.lognormal(-3, 1, LARGE + 100).astype(np.float32)
    if ties:
        score[: LARGE // 2] = np.float32(0.05)
    order = np.sort(score.astype(np.float64))
    spent = order.cumsum()
    goal = 0.3 * spent[-1]
    boundary = order[np.searchsorted(spent, goal, side="right")]
    below, at = spent[np.searchsorted(order, boundary) - 1], boundary * (order == boundary).sum()
    level = WaterFilling(1.0, kappa=0.0).level(images(score), torch.tensor([goal / score.size]).double())
    assert float(level[0, 0]) == pytest.approx(boundary, rel=1e-6)
    assert float(level[0, 1]) == pytest.approx((goal - below) / at, abs=1e-5)


@pytest.mark.parametrize("spread", [1.0, 1e-4, 0.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_search_sort_and_halve_as_numpy_does(spread: float, dtype: type) -> None:
    """Scores far apart, crowded and all equal, with zeros of both signs; edges at scores and beyond."""
    scores = np.random.default_rng(0).random(999) * spread + 1 - spread
    scores = np.concatenate([scores, [0.0, -0.0, 1e-45, 3e38]]).astype(dtype)
    edges = np.concatenate([np.sort(scores)[::9], [np.inf, np.inf]])
    for some in (edges, edges[:0], edges[-1:]):
        for closed, side in ((True, "right"), (False, "left")):
            expected = np.searchsorted(some, scores, side)
            np.testing.assert_array_equal(places_of(scores, some, closed), expected)
    positive = np.abs(scores).astype(np.float32)
    np.testing.assert_array_equal(ascending_of(positive), np.sort(positive))
    some = np.append(positive[:-1], np.float32(0)), np.append(positive[:-1] > 0.5, False)
    values, counted = (torch.from_numpy(each)[None] for each in some)
    expected = np.sort(some[0][some[1]])[(some[1].sum() - 1) // 2]
    assert medians(values, counted.float()).item() == expected
    assert medians(values, torch.zeros_like(values)).item() == 0
