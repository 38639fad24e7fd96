"""Distances by name."""

import math

import pytest
import torch
from torchmetrics.functional import mean_absolute_error, mean_squared_error
from torchmetrics.functional.image import structural_similarity_index_measure

from conformask.errors import InvalidArgumentError
from conformask.losses.distances import BUILT_IN as DISTANCES, PERCEPTUAL, CustomDistance, Lp, MapOf, distance
from conformask.losses.perceptual import Lpips, Ssim
from conformask.testing import DistanceContract

GENERATOR = torch.Generator().manual_seed(0)
Y = torch.rand(4, 3, 20, 23, generator=GENERATOR)
Y_HAT = (
    Y + torch.tensor([0.02, 0.1, 0.4, 0.0]).view(4, 1, 1, 1) * torch.randn(Y.shape, generator=GENERATOR)
).clamp(0, 1)


def brightness(a, b):
    return (a - b).mean((1, 2, 3)).abs()


class TestL1(DistanceContract):
    distance = Lp(1.0)


class TestL2(DistanceContract):
    distance = Lp(2.0)
    shapes = ((1, 1, 1), (3, 7, 5))


class TestL3(DistanceContract):
    distance = Lp(3.0)


class TestL15(DistanceContract):
    distance = Lp(1.5)


class TestSsim(DistanceContract):
    distance = Ssim()
    shapes = ((1, 11, 11), (3, 17, 24))


class TestCustom(DistanceContract):
    distance = CustomDistance(brightness, upper_bound=1.0)


class Wrong(DistanceContract):
    """Distances that break a law, to see that the contract tells."""

    def broken(self):
        found = set()
        for law in (name for name in dir(self) if name.startswith("test_")):
            try:
                getattr(self, law)()
            except (AssertionError, RuntimeError, InvalidArgumentError):
                found.add(law)
        return found


@pytest.mark.parametrize(
    ("wrong", "law"),
    [
        (CustomDistance(brightness, monotone=True), "test_monotone"),
        (CustomDistance(brightness, upper_bound=0.5), "test_upper_bound"),
        (CustomDistance(lambda a, b: (a - b).abs().mean().expand(len(a))), "test_images_do_not_mix"),
        (CustomDistance(lambda a, b: (a - b).square().mean((1, 2, 3)).sqrt()), "test_gradient_is_finite"),
        (CustomDistance(lambda a, b: (a - b).abs().mean((1, 2, 3)) + 0.1), "test_zero_between_equal_images"),
        (CustomDistance(lambda a, b: 0 * (a - b).mean((1, 2, 3))), "test_not_blind"),
        (CustomDistance(lambda a, b: (a - b).mean((1, 2, 3))), "test_one_number_an_image"),
    ],
)
def test_the_contract_tells(wrong, law):
    contract = Wrong()
    contract.distance = wrong
    assert law in contract.broken()


@pytest.mark.parametrize(("name", "reference"), [("l1", mean_absolute_error), ("l2", mean_squared_error)])
def test_lp_against_torchmetrics_one_by_one(name, reference):
    expected = torch.stack([reference(b.contiguous(), a) for a, b in zip(Y, Y_HAT, strict=True)])
    found = distance(name)(Y, Y_HAT)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-8)


def test_ssim_against_torchmetrics_one_by_one():
    expected = [
        1 - structural_similarity_index_measure(b[None], a[None], data_range=1.0)
        for a, b in zip(Y, Y_HAT, strict=True)
    ]
    torch.testing.assert_close(distance("ssim")(Y, Y_HAT), torch.stack(expected), rtol=1e-5, atol=1e-6)
    assert len({round(float(value), 3) for value in expected}) == 4


@pytest.mark.parametrize("shape", [(2, 1, 11, 11), (2, 3, 40, 23), (1, 1, 128, 70), (1, 1, 530, 16)])
def test_ssim_and_its_gradient_are_torchmetrics_at_any_size(shape):
    generator = torch.Generator().manual_seed(0)
    a, noise = torch.rand(2, *shape, generator=generator)
    b = (a + 0.3 * (noise - 0.5)).clamp(0, 1)
    ours, theirs = (b.clone().requires_grad_() for _ in range(2))
    value = distance("ssim")(a, ours)
    expected = 1 - structural_similarity_index_measure(theirs, a, data_range=1.0, reduction="none")
    for each in (value, distance("ssim")(a, b)):
        torch.testing.assert_close(each, expected.reshape(-1), rtol=1e-5, atol=1e-6)
    value.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("size", [(20, 30), (12, 13, 14)])
def test_ssim_of_equal_images_is_exactly_one(size):
    generator = torch.Generator().manual_seed(0)
    flat = torch.rand(20, 1, *[1] * len(size), generator=generator).expand(-1, -1, *size)
    for images in (flat, torch.rand(20, 1, *size, generator=generator)):
        assert Ssim()(images, images.clone()).eq(0).all()
        assert Ssim()(images.clone().requires_grad_(), images).eq(0).all()


def test_ssim_is_not_monotone():
    y, y_hat = torch.full((1, 1, 32, 32), 0.5), torch.full((1, 1, 32, 32), 0.4)
    half = torch.ones_like(y)
    half[..., 16:] = 0
    half[..., :16, :] = 0.1
    rough = (torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(2)) < 0.5).float()
    assert any(Ssim()(m * y, m * y_hat) > Ssim()(y, y_hat) for m in (half, rough))


def large(seed):
    return torch.rand(4, 3, 180, 177, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["l1", "l1.5", "l2", "ssim"])
def test_gradient_between_black_images(name):
    a, b = torch.zeros(2, 1, 1, 180, 180, requires_grad=True)
    a.retain_grad()
    value = distance(name)(a, b)
    assert value.shape == (1,)
    value.sum().backward()
    assert a.grad.isfinite().all()


@pytest.mark.parametrize("name", ["l1", "ssim"])
def test_values_above_1_and_autocast(name):
    y, y_hat = 1.05 * large(0), 1.05 * large(1)
    expected = distance(name)(y, y_hat)
    assert expected.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(distance(name)(y, y_hat), expected)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_gradcheck_away_from_zero(p):
    a = torch.rand(2, 1, 3, 4, dtype=torch.float64, generator=GENERATOR)
    b = a + 0.2 + torch.rand(a.shape, dtype=torch.float64, generator=GENERATOR)
    assert torch.autograd.gradcheck(Lp(p), (a.requires_grad_(), b.requires_grad_()))


def test_sums_do_not_lose_small_errors():
    y, y_hat = torch.zeros(1, 1, 2000, 2000), torch.full((1, 1, 2000, 2000), 1e-4)
    assert float(Lp(1.0)(y, y_hat)) == pytest.approx(float(torch.tensor(1e-4)), rel=1e-9)


def test_by_name():
    names = ["l1", "l2", "ssim", "lpips", "lpips_alex", "lpips_vgg"]
    assert [distance(name).name for name in DISTANCES] == list(DISTANCES) == names
    assert [distance(name).exponent for name in DISTANCES] == [1.0, 2.0, *[None] * 4]
    assert [distance(name).monotone for name in DISTANCES] == [True, True, *[False] * 4]
    assert [distance(name).upper_bound for name in DISTANCES] == [1.0, 1.0, 2.0, *[None] * 3]
    lp = Lp(3.0)
    assert distance(lp) is lp
    assert distance(brightness).name == "brightness"
    assert not distance(brightness).monotone
    assert distance(brightness).exponent is distance(brightness).upper_bound is None


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 1.0000001, 1 / 0.3, 1e20])
def test_any_exponent_by_name(p):
    assert distance(Lp(p).name) == Lp(p)


def test_names_of_exponents():
    assert [Lp(p).name for p in (1.0, 2.0, 1.5, 10.0)] == ["l1", "l2", "l1.5", "l10"]
    assert distance("l1.50").name == "l1.5"


def test_what_is_refused():
    with pytest.raises(InvalidArgumentError, match=r"'sim' is unknown; choose from .*did you mean 'ssim'"):
        distance("sim")
    with pytest.raises(InvalidArgumentError, match="did you mean 'l1'"):
        distance("L1")
    with pytest.raises(InvalidArgumentError, match=r"choose from \['l1', 'l2', 'ssim', .*\]$"):
        distance("wasserstein")
    with pytest.raises(InvalidArgumentError, match=r"p = 0.5: an lp distance needs p >= 1"):
        distance("l0.5")
    with pytest.raises(InvalidArgumentError, match=r"'l1.5.2' is unknown"):
        distance("l1.5.2")
    for p in (0.5, math.nan, math.inf):
        with pytest.raises(InvalidArgumentError, match="needs p >= 1"):
            Lp(p)
    with pytest.raises(InvalidArgumentError, match=r"at least 11 pixels per side, but these have \(10, 40\)"):
        Ssim()(torch.zeros(1, 1, 10, 40), torch.zeros(1, 1, 10, 40))


@pytest.mark.parametrize("choice", ["l1", "l1.5", "ssim", brightness, Ssim()])
def test_weights_for_a_distance_without_a_network(choice):
    with pytest.raises(InvalidArgumentError, match=rf"\['lpips', .*not to '{distance(choice).name}'"):
        distance(choice, weights_path="folder")
    with pytest.raises(InvalidArgumentError, match="did you mean 'lpips'"):
        distance("lpisp", weights_path="folder")
    assert distance(torch.dist).name == "dist", "compiled, so that nothing is known of its arguments"


@pytest.mark.parametrize("name", [*PERCEPTUAL, "ssim", "l3"])
def test_a_callable_with_the_name_of_another_distance(name):
    def own(a, b):
        return brightness(a, b)

    own.__name__ = name
    with pytest.raises(
        InvalidArgumentError, match=f"the name of a built-in one, '{name}'.*: rename the function"
    ):
        distance(own)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda a, b: (a - b).abs().mean(), r"returned \(\) for 4 images; expected a tensor of shape \(4,\)"),
        (lambda a, b: (a - b).abs().mean((2, 3)), r"returned \(4, 3\)"),
        (lambda a, b: 0.1, "returned float"),
        (lambda a, b: (a - b).mean((1, 2, 3)) * math.nan, "NaN or infinity"),
        (lambda a, b: (a - b).mean((1, 2, 3)) + math.inf, "NaN or infinity"),
    ],
)
def test_callables_that_are_no_distance(function, message):
    with pytest.raises(InvalidArgumentError, match=message):
        distance(function)(Y, Y_HAT)


def pair(*size):
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(2, 1, *size, generator=generator)
    return y, (y + 0.2 * torch.rand(2, 1, *size, generator=generator)).clamp(0, 1)


def test_ssim_is_that_of_torchmetrics():
    y, y_hat = pair(12, 17, 14)
    expected = [
        1 - structural_similarity_index_measure(a[None], b[None], sigma=1.5, data_range=1.0)
        for a, b in zip(y, y_hat, strict=True)
    ]
    torch.testing.assert_close(distance("ssim")(y, y_hat), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_the_map_of_ssim_has_the_volume_s_shape():
    y, y_hat = pair(12, 17, 14)
    errors = MapOf(Ssim()).error_map(y, y_hat)
    assert errors.shape == y.shape
    torch.testing.assert_close(errors.mean(dim=(1, 2, 3, 4)), Ssim()(y, y_hat), rtol=1e-4, atol=1e-5)


class OneSlice(torch.nn.Module):
    """A network that gives each slice its own mean difference."""

    def forward(self, a, b):
        assert a.ndim == 4
        return [(a - b).abs().mean(dim=1, keepdim=True)]


def test_lpips_is_the_mean_over_slices(monkeypatch):
    monkeypatch.setattr("conformask.losses.perceptual._network", lambda *_: OneSlice())
    monkeypatch.setattr("conformask.losses.perceptual.weights_file", lambda *_: None)
    y, y_hat = pair(3, 20, 24)
    whole = Lpips("squeeze")
    slices = torch.stack([whole(y[:, :, at], y_hat[:, :, at]) for at in range(3)]).mean(dim=0)
    torch.testing.assert_close(whole(y, y_hat), slices)
    errors = whole.error_map(y, y_hat)
    assert errors.shape == y.shape
    torch.testing.assert_close(errors[:, :, 1], whole.error_map(y[:, :, 1], y_hat[:, :, 1]))
