import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from conformask.masks.families import Power, Reciprocal
from conformask.masks.kernels import saturating_curve

SCORES = arrays(np.float32, (3, 3, 4, 5), elements=st.floats(0, 4, width=16))
GRID = np.concatenate([[0.0], np.geomspace(1e-6, 10, 30), [np.inf]])


@pytest.mark.thorough
@given(SCORES, SCORES, st.floats(0, 8), st.sampled_from([1.0, 1.5, 2.0]), st.sampled_from([1e-6, 1e-3, 0.1]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_gamma_1_is_reciprocal(s, e, lam, exponent, epsilon) -> None:  # type: ignore[no-untyped-def]
    score, error, lams = torch.from_numpy(s), torch.from_numpy(e), torch.full((3,), lam, dtype=torch.float64)
    one, other = Power(1.0, epsilon, kappa=0.0), Reciprocal(epsilon)
    level = one.level(score, lams)
    assert torch.equal(level, other.level(score, lams))
    assert torch.equal(one.apply(score, level), other.apply(score, level))
    threshold = 0.5 * float(e[0].mean())
    found, expected = (f.critical_lambda(score, error, exponent, threshold) for f in (one, other))
    assert torch.equal(found, expected)
    for ours, theirs in zip(
        one.curve(score, error, exponent, GRID), other.curve(score, error, exponent, GRID), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@given(SCORES, st.floats(1e-6, 8), st.floats(0.1, 10))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_mask_is_the_reciprocal_one_to_the_gamma(s, lam, gamma) -> None:  # type: ignore[no-untyped-def]
    score, lams = torch.from_numpy(s), torch.full((3,), lam, dtype=torch.float64)
    mask = Power(gamma, kappa=0.0).apply(score, Power(gamma, kappa=0.0).level(score, lams))
    expected = np.minimum(1, lam / (1e-3 + s.astype(float))) ** gamma
    np.testing.assert_allclose(mask.numpy(), expected, rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.7, 1.3, 2.0, 4.0, 10.0])
def test_neighbouring_lambdas_are_nested(gamma: float) -> None:
    score = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    lam = torch.from_numpy(np.arange(500, dtype=np.int32) + np.float32(0.4).view(np.int32)).view(
        torch.float32
    )
    masks = Power(gamma, kappa=0.0).apply(score.expand(500, -1, -1, -1), lam[:, None])
    assert (masks.diff(dim=0) >= 0).all()
    assert (masks <= 1).all()


@pytest.mark.parametrize("exponent", [1.0, 2.0])
@pytest.mark.parametrize("gamma", [0.5, 2.0, 4.0, 10.0])
def test_flat_scores_stay_within_float32_of_the_threshold(gamma: float, exponent: float) -> None:
    values = torch.rand(500, generator=torch.Generator().manual_seed(0)) + 0.01
    score, error = values[:, None, None, None].expand(-1, 1, 2, 2).contiguous(), torch.ones(500, 1, 2, 2)
    threshold = 0.3
    critical = Power(gamma, kappa=0.0).critical_lambda(score, error, exponent, threshold)
    mask = Power(gamma, kappa=0.0).apply(score, Power(gamma, kappa=0.0).level(score, critical)).double()
    reached = (mask**exponent).mean((1, 2, 3))
    assert (reached <= threshold * (1 + exponent * (gamma + 1) * 2**-23)).all()


@pytest.mark.parametrize("power", [0.1, 1.0, 2.0, 10.0, 100.0])
def test_curves_keep_slopes_too_steep_for_floats(power: float) -> None:
    """Keys over thirty decades, some 0: their powers leave the range of floats, the masks do not."""
    generator = np.random.default_rng(0)
    keys, error = 10.0 ** generator.uniform(-30, 0, 60), generator.random(60)
    keys[:3] = 0
    edges = np.concatenate([[0.0], np.geomspace(1e-32, 10, 400), [10.0, np.inf]])
    with np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore"):
        masks = np.where(keys <= edges[:, None], 1.0, (edges[:, None] / keys) ** power)
    masks[0] = 0
    distance, size = saturating_curve(keys, error, edges, power, 2.0)
    np.testing.assert_allclose(distance, (masks**2 * error).mean(axis=1), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(size, 1 - masks.mean(axis=1), rtol=1e-12, atol=1e-15)
