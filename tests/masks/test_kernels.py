"""Kernels: against scipy and levels by sums over parts; they compile where nothing can be cached."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, linprog, minimize

import conformask
from conformask.errors import MismatchError
from conformask.masks.families import Binary, Power, Reciprocal, TrustedMean, WaterFilling
from conformask.masks.family import Family
from conformask.masks.kernels import medians, places_of, radix_sorted
from conformask.records.record import Array

SEEDS = range(5)


def images(values):
    return torch.from_numpy(values.astype(np.float32)).reshape(1, 1, 1, -1)


def problem(seed, n=40):
    generator = np.random.default_rng(seed)
    score, error = generator.lognormal(-3, 1, n), generator.lognormal(-3, 1, n)
    return score.astype(np.float32).astype(float), error.astype(np.float32).astype(float)


def filled(score, exponent, budget):
    family, lam = WaterFilling(exponent, kappa=0.0), torch.tensor([budget], dtype=torch.float64)
    mask: np.ndarray = (
        family.apply(images(score), family.level(images(score), lam)).double().flatten().numpy()
    )
    return mask


@pytest.mark.parametrize("seed", SEEDS)
def test_p1_is_the_linear_program(seed):
    score, _ = problem(seed)
    budget = 0.3 * score.mean()
    best = linprog(-np.ones(score.size), A_ub=score[None] / score.size, b_ub=[budget], bounds=(0, 1))
    np.testing.assert_allclose(filled(score, 1.0, budget), best.x, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_trusted_mean_is_the_linear_program(seed):
    score, _ = problem(seed)
    budget = 0.5 * score.mean()
    best = linprog(-np.ones(score.size), A_ub=(score - budget)[None], b_ub=[0.0], bounds=(0, 1))
    family, lam = TrustedMean(kappa=0.0), torch.tensor([budget], dtype=torch.float64)
    found = family.apply(images(score), family.level(images(score), lam)).flatten().numpy()
    np.testing.assert_allclose(found, best.x, atol=1e-6)


@pytest.mark.parametrize("exponent", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_p_above_1_is_the_convex_optimum(seed, exponent):
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


def root(score, error, exponent, threshold):
    """Where the mean of the error under min(1, lam / score)^exponent is the threshold, by scipy."""

    def excess(lam):
        return float(np.mean(np.minimum(1, lam / score) ** exponent * error) - threshold)

    return brentq(excess, 1e-9, 10, xtol=1e-15, rtol=1e-13)


@pytest.mark.parametrize("gamma", [None, 0.5, 1.0, 2.0, 4.0, 10.0])
@pytest.mark.parametrize("exponent", [1.0, 1.7, 2.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_critical_lambda_is_the_root(seed, exponent, gamma):
    score, error = problem(seed, 5000)
    threshold = 0.4 * error.mean()
    chosen = Reciprocal() if gamma is None else Power(gamma, kappa=0.0)
    found = chosen.critical_lambda(images(score), images(error), exponent, threshold)
    expected = root(1e-3 + score, error, exponent * (gamma or 1), threshold)
    assert float(found[0]) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("exponent", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_water_filling_critical_lambda_is_the_root(seed, exponent):
    score, error = problem(seed, 5000)
    threshold = 0.4 * error.mean()
    sigma = root(score, error, exponent / 0.7, threshold)
    budget = np.mean(np.minimum(1, sigma / score) ** (1.7 / 0.7) * score)
    found = WaterFilling(1.7, kappa=0.0).critical_lambda(images(score), images(error), exponent, threshold)
    assert float(found[0]) == pytest.approx(budget, rel=1e-9)


@pytest.mark.parametrize("distinct", [4, 5000])
@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_selection_is_a_full_sort(distinct, exponent):
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
def test_newton_recovers_from_any_guess(exponent, misled):
    score, error = problem(0, 8192)
    error.reshape(-1, 1024)[:, misled] *= 1e-6
    threshold = 0.5 * error.mean()
    found = Reciprocal().critical_lambda(images(score), images(error), exponent, threshold)
    assert float(found[0]) == pytest.approx(root(1e-3 + score, error, exponent, threshold), rel=1e-8)


@pytest.mark.parametrize("n", [100_000, pytest.param(2**25 + 100, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("ties", [False, True])
def test_levels_and_critical_lambdas_are_those_of_a_sort(ties, n):
    generator = np.random.default_rng(0)
    score = generator.lognormal(-3, 1, n).astype(np.float32)
    if ties:
        score[: n // 2] = np.float32(0.05)
    order = np.sort(score.astype(np.float64))
    spent = order.cumsum()
    goal = 0.3 * spent[-1]
    boundary = order[np.searchsorted(spent, goal, side="right")]
    below, at = spent[np.searchsorted(order, boundary) - 1], boundary * (order == boundary).sum()
    family, budget = WaterFilling(1.0, kappa=0.0), goal / score.size
    level = family.level(images(score), torch.tensor([budget]).double())
    assert float(level[0, 0]) == pytest.approx(boundary, rel=1e-6)
    assert float(level[0, 1]) == pytest.approx((goal - below) / at, abs=1e-5)
    critical = family.critical_lambda(images(score), images(score), 1.0, budget)
    assert float(critical) == pytest.approx(budget, rel=1e-9)


@pytest.mark.parametrize("spread", [1.0, 1e-4, 0.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_search_sort_and_halve_as_numpy_does(spread, dtype):
    """Scores far apart, crowded and all equal, with zeros of both signs; edges at scores and beyond."""
    scores = np.random.default_rng(0).random(999) * spread + 1 - spread
    scores = np.concatenate([scores, [0.0, -0.0, 1e-45, 3e38]]).astype(dtype)
    edges = np.concatenate([np.sort(scores)[::9], [np.inf, np.inf]])
    for some in (edges, edges[:0], edges[-1:]):
        for closed, side in ((True, "right"), (False, "left")):
            expected = np.searchsorted(some, scores, side)
            np.testing.assert_array_equal(places_of(scores, some, closed), expected)
    positive = np.abs(scores).astype(np.float32)
    np.testing.assert_array_equal(radix_sorted(positive), np.sort(positive))
    some = np.append(positive[:-1], np.float32(0)), np.append(positive[:-1] > 0.5, False)
    values, counted = (torch.from_numpy(each)[None] for each in some)
    expected = np.sort(some[0][some[1]])[(some[1].sum() - 1) // 2]
    assert medians(values, counted.float()).item() == expected
    assert medians(values, torch.zeros_like(values)).item() == 0


GENERATOR = np.random.default_rng(0)
LAMBDAS = (0.0, 1e-30, 1e-4, 0.02, 0.1, 0.25, 0.7, 1.0, 3.0, 1e30, np.inf)


def scores():
    heavy = np.exp(6 * GENERATOR.standard_normal(500)).astype(np.float32)
    ties = (GENERATOR.integers(0, 4, 400) / 8).astype(np.float32)
    holes = np.where(GENERATOR.random(300) < 0.5, 0, GENERATOR.random(300)).astype(np.float32)
    narrow = (1 + 1e-3 * GENERATOR.random(200)).astype(np.float32)
    flat = np.full(8, 0.25, np.float32)
    return [heavy, ties, holes, narrow, np.zeros(9, np.float32), flat, np.float32([0.3])]


def level_in_passes(family, score, lam):
    known = family.streaming_level(lam, score.size)
    for _ in range(known.count):
        known = known.after(sum(known.sums_of(part) for part in np.array_split(score, 3)))
    assert known.level is not None
    return known.level


def levels(family):
    """Score, the kernel's level, that in passes, and what to call them."""
    for score in scores():
        for lam in LAMBDAS:
            lams = torch.tensor([lam], dtype=torch.float64)
            level = family.level(torch.from_numpy(score)[None, None, None], lams)[0].numpy()
            yield score, level, level_in_passes(family, score, lam), f"{lam} {score[:4]}"


def opened(family, score, level):
    mask: Array = family.apply(torch.from_numpy(score)[None, None], torch.from_numpy(level)[None]).numpy()
    return mask


@pytest.mark.parametrize(
    "family",
    [
        Binary("largest"),
        Power(),
        Power(gamma=1.0, kappa=0.0),
        WaterFilling(),
        WaterFilling(kappa=0.0),
        WaterFilling(kappa=0.7),
        WaterFilling(exponent=2.0),
        WaterFilling(exponent=1.5, kappa=0.0),
        WaterFilling(exponent=1.1, kappa=0.7),
    ],
    ids=repr,
)
def test_levels_are_those_of_the_kernels_bit_for_bit(family):
    for _, expected, level, called in levels(family):
        np.testing.assert_array_equal(level, expected, err_msg=called)


@pytest.mark.parametrize(
    "family",
    [
        TrustedMean(),
        TrustedMean(kappa=0.0),
        TrustedMean(kappa=1.0),
        Binary(),
        Binary(kappa=0.0),
        Binary("mean"),
        Binary("mean", kappa=0.0),
    ],
    ids=repr,
)
def test_masks_are_those_of_sorted_scores(family):
    for score, expected, level, called in levels(family):
        mask, sorted_mask = opened(family, score, level), opened(family, score, expected)
        np.testing.assert_allclose(mask, sorted_mask, rtol=0, atol=1e-6, err_msg=called)


def test_a_family_without_passes_is_refused():
    class Plain(Family):
        name = "plain"
        level, apply = Power.level, Power.apply

    with pytest.raises(MismatchError, match="your own family 'plain' needs a method streaming_level"):
        Plain().streaming_level(0.1, 10)


USE = """
import torch
from conformask.masks import kernels
from conformask.masks.families import WaterFilling
assert kernels.__file__.startswith({place!r}), kernels.__file__
score, error = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
print(WaterFilling(1.0).critical_lambda(score, error, 1.0, 0.1).isfinite().all().item())
"""


@pytest.mark.slow
def test_no_folder_for_a_cache(tmp_path):
    """As root may write anywhere, files stand where the folders would be made."""
    source = Path(conformask.__file__).parent
    shutil.copytree(source, tmp_path / "conformask", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "conformask" / "masks" / "__pycache__").write_text("in the way")
    (tmp_path / "home").write_text("in the way")
    here = {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    left_out = ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in left_out} | here
    command = [sys.executable, "-c", USE.format(place=str(tmp_path))]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.thorough
def test_a_number_of_threads_that_is_none():
    command = [sys.executable, "-c", "import conformask.masks.kernels"]
    environment = {**os.environ, "NUMBA_NUM_THREADS": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "InvalidArgumentError: the environment variable NUMBA_NUM_THREADS is not valid" in done.stderr
