"""The families of the graph against those that calibration uses."""

import math
import os
from dataclasses import dataclass
from typing import get_args

import pytest
import torch

from conformask.errors import MismatchError
from conformask.extras.export.onnx_graph import mask_function
from conformask.masks.families import Binary, Bounded, Power, Reciprocal, TrustedMean, WaterFilling
from conformask.masks.family import Family
from conformask.masks.kernels import rounded_down_in_graph, spent

FAMILIES = [
    *(Binary(bounds, kappa) for bounds in get_args(Bounded) for kappa in (0.0, -0.25, 1.0)),
    Reciprocal(),
    Reciprocal(epsilon=1e-6),
    Power(),
    Power(gamma=10.0, epsilon=1e-2, kappa=-1.0),
    Power(gamma=0.1, kappa=0.0),
    WaterFilling(),
    WaterFilling(kappa=0.0),
    TrustedMean(),
    TrustedMean(kappa=0.0),
    WaterFilling(kappa=1.0),
    WaterFilling(2.0),
    WaterFilling(1.5, kappa=-1.0),
    WaterFilling(1.1),
    WaterFilling(7.0, kappa=0.0),
]
LAMBDAS = [0.0, 1e-30, 1e-9, 1e-4, 0.003, 0.02, 0.1, 0.3, 0.7, 1.0, 10.0, 1e9, 1e30, 1e300, math.inf]


def scores() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand(3, 1, 7, 9, generator=generator)
    heavy = torch.exp(6 * torch.randn(2, 3, 8, 5, generator=generator)).clamp(1e-12, 1)
    ties = torch.randint(0, 4, (3, 1, 12, 11), generator=generator) / 8
    holes = smooth * (smooth > 0.5)
    flat = torch.full((1, 1, 6, 6), 0.25)
    single = torch.zeros(1, 1, 5, 5)
    single[0, 0, 2, 2] = 0.1
    return [smooth, heavy, ties, holes, flat, single, torch.zeros(2, 1, 4, 4), torch.rand(1, 1, 1, 1)]


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_masks_are_those_of_the_family(family) -> None:
    opened = mask_function(family)
    for score in scores():
        for lam in [*LAMBDAS, *score.flatten()[:4].tolist(), float(score.double().mean())]:
            lams = torch.full((len(score),), lam, dtype=torch.float64)
            wanted = family.apply(score, family.level(score, lams))
            found = opened(score, lams)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6, msg=lambda m, lam=lam: f"{lam}: {m}")


@pytest.mark.parametrize("family", [each for each in FAMILIES if isinstance(each, WaterFilling)], ids=repr)
def test_levels_on_an_accelerator_are_those_of_the_kernels(family) -> None:
    for score in scores():
        for lam in LAMBDAS:
            lams = torch.full((len(score),), lam, dtype=torch.float64)
            budgets = torch.from_numpy(spent(score, lams, family.kappa))
            found, wanted = family.level_by_sorting(score, budgets), family.level(score, lams)
            assert found.dtype == wanted.dtype == torch.float32
            torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_each_image_has_its_own_lambda(family) -> None:
    score = scores()[2]
    lams = torch.tensor([0.0, 0.05, math.inf], dtype=torch.float64)
    together = mask_function(family)(score, lams)
    assert (together[0] == 0).all()
    assert (together[2] == 1).all()
    torch.testing.assert_close(together[1:2], family.apply(score[1:2], family.level(score[1:2], lams[1:2])))


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
@pytest.mark.parametrize("lam", [-1.0, -math.inf, math.nan])
def test_a_lambda_that_the_family_refuses_closes_the_mask(family, lam: float) -> None:
    for score in scores():
        assert (mask_function(family)(score, torch.full((len(score),), lam, dtype=torch.float64)) == 0).all()


def test_rounding_is_never_up() -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.exp(20 * torch.randn(10_000, generator=generator, dtype=torch.float64))
    values[:20] = 2.0 ** torch.arange(-10, 10, dtype=torch.float64) * (1 - 1e-12)
    found = rounded_down_in_graph(values)
    assert (found.double() <= values).all()
    above = torch.nextafter(found, torch.tensor(math.inf))
    assert (above.double() > values).all(), "the nearest float32 that is not above"


def test_a_family_of_your_own_needs_a_level_in_the_graph() -> None:
    class Mine(Family):
        name = "mine"
        level, apply = Power.level, Power.apply

    with pytest.raises(MismatchError, match=r"family 'mine' .* level_in_graph"):
        mask_function(Mine())


@pytest.mark.skipif(
    os.environ.get("CONFORMASK_TYPES") == "1", reason="types are checked at every call in this run"
)
def test_an_object_that_only_calibration_takes_for_a_family_is_told_what_to_inherit() -> None:
    class Mine:
        name = "mine"
        level, apply, curve = Reciprocal().level, Reciprocal().apply, Reciprocal().curve
        critical_lambda, settings = Reciprocal().critical_lambda, Reciprocal().settings

    with pytest.raises(MismatchError, match=r"'mine' has to inherit from .*masks\.family\.Family"):
        mask_function(Mine())


def test_its_own_formula_is_exported() -> None:
    @dataclass(frozen=True)
    class Halved(Reciprocal):
        def apply(self, score: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            return super().apply(score, level) / 2

    score, lams = scores()[0], torch.full((3,), 0.1, dtype=torch.float64)
    assert torch.equal(mask_function(Halved())(score, lams), mask_function(Reciprocal())(score, lams) / 2)
