"""Families of masks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from jaxtyping import TypeCheckError

from conformask.errors import InvalidArgumentError
from conformask.masks.families import FAMILIES, Binary, Power, Reciprocal, TrustedMean, WaterFilling, family
from conformask.masks.family import Family
from conformask.masks.kernels import saturating_curve
from conformask.testing import FamilyContract
from untyped import UNTYPED


class TestReciprocal(FamilyContract):
    family = Reciprocal()


class TestReciprocalSmallEpsilon(FamilyContract):
    family = Reciprocal(epsilon=1e-6)
    exponents = (1.5, 3.0)


class TestBinary(FamilyContract):
    family = Binary()


class TestBinaryOfOneBudget(FamilyContract):
    family = Binary(kappa=0.0)


class TestBinaryOfAShare(FamilyContract):
    family = Binary(kappa=1.0)


class TestBinaryByTheLargest(FamilyContract):
    family = Binary("largest")


class TestBinaryOfOneBoundary(FamilyContract):
    family = Binary("largest", kappa=0.0)


class TestBinaryByTheMean(FamilyContract):
    family = Binary("mean")


class TestBinaryOfOneMean(FamilyContract):
    family = Binary("mean", kappa=0.0)


class TestWaterFilling1(FamilyContract):
    family = WaterFilling(1.0)


class TestWaterFillingOfOneBudget(FamilyContract):
    family = WaterFilling(1.0, kappa=0.0)


class TestWaterFilling2(FamilyContract):
    family = WaterFilling(2.0)


class TestWaterFilling15(FamilyContract):
    family = WaterFilling(1.5)
    exponents = (1.0, 1.5, 3.0)


class TestTrustedMean(FamilyContract):
    family = TrustedMean()


class TestTrustedMeanOfOneBudget(FamilyContract):
    family = TrustedMean(kappa=0.0)


class TestWaterFillingOfAShare(FamilyContract):
    family = WaterFilling(1.0, kappa=1.0)


class TestPowerHalf(FamilyContract):
    family = Power(0.5)
    exponents = (1.0, 1.5, 2.0)


class TestPower1(FamilyContract):
    family = Power(1.0)


class TestPower2(FamilyContract):
    family = Power(2.0)
    smallest = 1e-18


class TestPower4(FamilyContract):
    family = Power(epsilon=1e-2)
    smallest = 1e-9


class OnlyMasks(Family):
    """A family of one's own that leaves all that follows from its masks to the defaults."""

    name = "only_masks"

    def level(self, score, lam):
        return Power(2.0, 1e-2).level(score, lam)

    def apply(self, score, level):
        return Power(2.0, 1e-2).apply(score, level)


class TestOnlyMasks(FamilyContract):
    family = OnlyMasks()
    smallest = 1e-18


def test_defaults_are_near_the_exact_solution():
    generator = torch.Generator().manual_seed(0)
    score, error = torch.rand(2, 4, 1, 9, 8, generator=generator)
    exact, default = Power(2.0, 1e-2), OnlyMasks()
    for threshold in (0.0, 0.1, 0.4, 2.0):
        found, expected = (each.critical_lambda(score, error, 1.0, threshold) for each in (default, exact))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    assert default.settings() == {"name": "only_masks"}


EVEN = WaterFilling(1.0, kappa=0.0)
"""Every image has the same budget."""
ALL = (
    Binary(),
    Binary("largest", kappa=0.0),
    Binary("mean", kappa=0.0),
    Reciprocal(),
    EVEN,
    WaterFilling(1.0),
    WaterFilling(2.0),
    Power(),
    Power(0.5),
    TrustedMean(),
)


def images(*values):
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


def lam(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_ties_share_the_fraction():
    score, each = images(0.1, 0.2, 0.2, 0.5), EVEN
    mask = each.apply(score, each.level(score, lam(0.3 / 4)))
    torch.testing.assert_close(mask, images(1, 0.5, 0.5, 0))
    found = each.critical_lambda(score, images(0, 1, 3, 0), 1.0, 0.5)
    torch.testing.assert_close(found, lam(0.3 / 4))


@pytest.mark.parametrize(("bounds", "critical"), [("largest", 0.2), ("total", 0.5 / 4), ("mean", 0.5 / 3)])
def test_binary_masks_show_or_hide_ties_together(bounds, critical):
    score, each = images(0.1, 0.2, 0.2, 0.5), family({"name": "binary", "bounds": bounds, "kappa": 0.0})
    for budget, shown in ((1 - 1e-6, 0), (1 + 1e-6, 1)):
        mask = each.apply(score, each.level(score, lam(critical * budget)))
        assert torch.equal(mask, images(1, shown, shown, 0))
    found = each.critical_lambda(score, images(0, 1, 3, 0), 1.0, 0.5)
    torch.testing.assert_close(found, lam(critical), rtol=1e-7, atol=0)
    assert torch.equal(each.apply(score, each.level(score, found)), images(1, 0, 0, 0))


@pytest.mark.parametrize("bounds", ["largest", "total", "mean"])
def test_sizes_of_binary_masks_are_those_of_their_curve(bounds):
    each = family({"name": "binary", "bounds": bounds})
    score = torch.rand(3, 2, 20, 20, generator=torch.Generator().manual_seed(0)) ** 4
    score[:, :, :5] = score[:, :, 5:10]  # ties
    grid = np.concatenate([[0.0], np.geomspace(1e-6, 10, 50), [np.inf]])
    np.testing.assert_array_equal(each.sizes(score, grid), each.curve(score, score, 1.0, grid)[1])


def test_zero_score_is_open_above_zero_and_critical_at_zero():
    score, error = images(0, 0, 1), images(1, 1, 0)
    for each in (WaterFilling(1.0), WaterFilling(2.0)):
        assert each.apply(score, each.level(score, lam(1e-9)))[0, 0, 0].tolist()[:2] == [1, 1]
        assert each.critical_lambda(score, error, each.exponent, 0.5) == 0
        assert each.critical_lambda(score, error, each.exponent, 2 / 3) == math.inf


def test_total_on_the_threshold_is_infinite_though_pixels_beyond_have_no_error():
    score, error = images(0.1, 0.2, 5, 9), images(0.3, 0.1, 0, 0)
    for each in ALL:
        assert each.critical_lambda(score, error, 1.0, float(error.double().mean())) == math.inf


@pytest.mark.parametrize("each", ALL, ids=str)
def test_a_total_a_little_above_the_threshold_is_too_much(each):
    """Only rounding is forgiven, not a hundred-thousandth."""
    score, error = images(0.1, 0.2, 5, 9), images(0.3, 0.1, 0.2, 0.4)
    found = each.critical_lambda(score, error, 1.0, (1 - 1e-5) * float(error.double().mean()))
    assert math.isfinite(found)


def test_water_filling_skips_ahead_over_pixels_without_error():
    score, error = images(1, 2, 3, 4), images(0, 0, 0, 1)
    assert EVEN.critical_lambda(score, error, 1.0, 0.0) == 6 / 4


@pytest.mark.parametrize("each", [WaterFilling(1.0, -0.5), WaterFilling(2.0, -0.5), Power(2.0, 1e-9, -0.5)])
def test_an_image_of_four_times_the_score_gets_half_the_lambda(each):
    easy, error = (torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    power = Power(each.gamma, each.epsilon, 0.0) if isinstance(each, Power) else None
    even = power or WaterFilling(each.exponent, 0.0)
    for score in (easy, 4 * easy):
        share = float(score.double().mean()) ** -0.5
        alike = even.apply(score, even.level(score, lam(0.1 * share)))
        torch.testing.assert_close(each.apply(score, each.level(score, lam(0.1))), alike)
        found = each.critical_lambda(score, error, 1.0, 0.2)
        torch.testing.assert_close(found * share, even.critical_lambda(score, error, 1.0, 0.2))
    first, second = (each.critical_lambda(score, error, 1.0, 0.2) for score in (easy, 4 * easy))
    torch.testing.assert_close(second, 8 * first, rtol=1e-5, atol=0)  # 4 times the lambda at half the share


def test_budget_is_spent():
    score = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for exponent in (1.0, 1.3, 2.0, 4.0):
        each = WaterFilling(exponent, kappa=0.0)
        mask = each.apply(score, each.level(score, lam(1e-4, 0.1, 0.4)))
        spent = (mask.double() ** exponent * score.double()).mean((1, 2, 3))
        assert (spent <= lam(1e-4, 0.1, 0.4) * (1 + 1e-6)).all()
        torch.testing.assert_close(spent, lam(1e-4, 0.1, 0.4), rtol=1e-5, atol=0)


@pytest.mark.thorough
@given(
    values=arrays(np.float32, (2, 7), elements=st.floats(0, 4, width=16)),
    share=st.floats(0.01, 1.2),
    each=st.sampled_from(ALL),
    exponent=st.sampled_from([1.0, 2.0]),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_critical_lambda_is_the_supremum(values, share, each, exponent):
    score, error = images(*values[0]), images(*values[1])
    threshold = share * float(error.double().mean())
    found = each.critical_lambda(score, error, exponent, threshold)

    def distance(at):
        mask = each.apply(score, each.level(score, at))
        return float((mask.double() ** exponent * error.double()).mean())

    assert distance(found) <= threshold * (1 + 1e-6)
    if math.isfinite(found):
        assert distance(found * 1.01 + 1e-30) > threshold * (1 - 1e-6)


def test_negative_zero_is_zero():
    score = images(-0.0, 0.0, 1.0)
    torch.testing.assert_close(EVEN.apply(score, EVEN.level(score, lam(0.1))), images(1, 1, 0.3))
    error = images(1, 1, 1)
    for each in ALL:
        found = each.critical_lambda(score, error, 1.0, 0.8)
        assert found == each.critical_lambda(score.abs(), error, 1.0, 0.8)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_values_outside_the_contract_are_refused(bad):
    for each in ALL:
        with pytest.raises(InvalidArgumentError, match="score: image 0"):
            each.critical_lambda(images(bad, 1), images(1, 1), 1.0, 0.1)
        with pytest.raises(InvalidArgumentError, match="error: image 0"):
            each.critical_lambda(images(1, 1), images(bad, 1), 1.0, 0.1)


def test_arguments_are_refused():
    for each in ALL:
        with pytest.raises(InvalidArgumentError, match="shape"):
            each.critical_lambda(images(1, 1), images(1), 1.0, 0.1)
        with pytest.raises(InvalidArgumentError, match="threshold"):
            each.critical_lambda(images(1), images(1), 1.0, math.nan)
        with pytest.raises(InvalidArgumentError, match="lam"):
            each.level(images(1), lam(-1.0))
        with pytest.raises((InvalidArgumentError, TypeCheckError), match=r"rows|lam"):
            each.level(images(1), lam(1.0, 1.0))
    for wrong in (0.0, -1.0, math.inf, math.nan):
        for made in (Reciprocal, Power):
            with pytest.raises(InvalidArgumentError, match="epsilon"):
                made(epsilon=wrong)
    for wrong in (0.0, -1.0, 0.09, 10.1, math.inf, math.nan):
        with pytest.raises(InvalidArgumentError, match="gamma"):
            Power(wrong)
    for wrong in (1.1, -1.1, -math.inf, math.nan):
        for chosen in (WaterFilling, Power, TrustedMean):
            with pytest.raises(InvalidArgumentError, match="kappa"):
                chosen(kappa=wrong)
    for wrong in (0.5, 1.01, math.inf, math.nan):
        with pytest.raises(InvalidArgumentError, match="exponent"):
            WaterFilling(wrong)


@UNTYPED
def test_family_by_name_and_settings():
    assert family("reciprocal") == Reciprocal()
    assert family("water_filling") == WaterFilling(1.0, -0.25)
    assert family("water_filling", 2.0) == WaterFilling(2.0, -0.125)
    assert family("binary", 2.0) == Binary("total", -0.125)
    assert family({"name": "power", "gamma": 3.0}, 2.0) == Power(3.0)
    assert family({"name": "water_filling", "kappa": 0}, 1.0) == EVEN
    for each in ALL:
        assert family(each.settings()) == each
    with pytest.raises(InvalidArgumentError, match="did you mean 'reciprocal'"):
        family("reciprocle")
    with pytest.raises(InvalidArgumentError, match="did you mean 'epsilon'"):
        family({"name": "reciprocal", "epsilom": 1.0})
    with pytest.raises(InvalidArgumentError, match="did you mean 'gamma'"):
        family({"name": "power", "gama": 1.0})
    with pytest.raises(InvalidArgumentError, match="did you mean 'total'"):
        family({"name": "binary", "bounds": "totl"})
    with pytest.raises(InvalidArgumentError, match="water_filling setting 'epsilon' is unknown"):
        family({"name": "water_filling", "epsilon": 1.0})
    assert set(FAMILIES) == {"binary", "reciprocal", "water_filling", "power", "trusted_mean"}


def test_empty_batch():
    for each in ALL:
        empty = torch.empty(0, 3, 4, 4)
        assert each.critical_lambda(empty, empty, 1.0, 0.1).shape == (0,)
        assert each.level(empty, lam()).shape[0] == 0


SCORES = arrays(np.float32, (3, 3, 4, 5), elements=st.floats(0, 4, width=16))
GRID = np.concatenate([[0.0], np.geomspace(1e-6, 10, 30), [np.inf]])


@pytest.mark.thorough
@given(SCORES, SCORES, st.floats(0, 8), st.sampled_from([1.0, 1.5, 2.0]), st.sampled_from([1e-6, 1e-3, 0.1]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_gamma_1_is_reciprocal(s, e, lam, exponent, epsilon):
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


@pytest.mark.thorough
@given(SCORES, st.floats(1e-6, 8), st.floats(0.1, 10))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_mask_is_the_reciprocal_one_to_the_gamma(s, lam, gamma):
    score, lams = torch.from_numpy(s), torch.full((3,), lam, dtype=torch.float64)
    mask = Power(gamma, kappa=0.0).apply(score, Power(gamma, kappa=0.0).level(score, lams))
    expected = np.minimum(1, lam / (1e-3 + s.astype(float))) ** gamma
    np.testing.assert_allclose(mask.numpy(), expected, rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.7, 1.3, 2.0, 4.0, 10.0])
def test_neighbouring_lambdas_are_nested(gamma):
    score = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    lam = torch.from_numpy(np.arange(500, dtype=np.int32) + np.float32(0.4).view(np.int32)).view(
        torch.float32
    )
    masks = Power(gamma, kappa=0.0).apply(score.expand(500, -1, -1, -1), lam[:, None])
    assert (masks.diff(dim=0) >= 0).all()
    assert (masks <= 1).all()


@pytest.mark.parametrize("exponent", [1.0, 2.0])
@pytest.mark.parametrize("gamma", [0.5, 2.0, 4.0, 10.0])
def test_flat_scores_stay_within_float32_of_the_threshold(gamma, exponent):
    values = torch.rand(500, generator=torch.Generator().manual_seed(0)) + 0.01
    score, error = values[:, None, None, None].expand(-1, 1, 2, 2).contiguous(), torch.ones(500, 1, 2, 2)
    threshold = 0.3
    critical = Power(gamma, kappa=0.0).critical_lambda(score, error, exponent, threshold)
    mask = Power(gamma, kappa=0.0).apply(score, Power(gamma, kappa=0.0).level(score, critical)).double()
    reached = (mask**exponent).mean((1, 2, 3))
    assert (reached <= threshold * (1 + exponent * (gamma + 1) * 2**-23)).all()


@pytest.mark.parametrize("power", [0.1, 1.0, 2.0, 10.0, 100.0])
def test_curves_keep_slopes_too_steep_for_floats(power):
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
