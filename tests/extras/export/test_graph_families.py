"""The families of the graph against those that calibration uses."""

import math
import os
from dataclasses import dataclass
from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch

from conformask.errors import MismatchError
from conformask.extras.export.onnx_graph import mask_function
from conformask.images.triplets import Triplets
from conformask.masker.load import load
from conformask.masks.families import Binary, Bounded, Power, Reciprocal, TrustedMean, WaterFilling
from conformask.masks.family import Family
from conformask.masks.kernels import rounded_down_in_graph, spent
from onnx_predictors import enlarging

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


def scores():
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
def test_masks_are_those_of_the_family(family):
    opened = mask_function(family)
    for score in scores():
        for lam in [*LAMBDAS, *score.flatten()[:4].tolist(), float(score.double().mean())]:
            lams = torch.full((len(score),), lam, dtype=torch.float64)
            wanted = family.apply(score, family.level(score, lams))
            found = opened(score, lams)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6, msg=lambda m, lam=lam: f"{lam}: {m}")


@pytest.mark.parametrize("family", [each for each in FAMILIES if isinstance(each, WaterFilling)], ids=repr)
def test_levels_on_an_accelerator_are_those_of_the_kernels(family):
    for score in scores():
        for lam in LAMBDAS:
            lams = torch.full((len(score),), lam, dtype=torch.float64)
            budgets = torch.from_numpy(spent(score, lams, family.kappa))
            found, wanted = family.level_by_sorting(score, budgets), family.level(score, lams)
            assert found.dtype == wanted.dtype == torch.float32
            torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_each_image_has_its_own_lambda(family):
    score = scores()[2]
    lams = torch.tensor([0.0, 0.05, math.inf], dtype=torch.float64)
    together = mask_function(family)(score, lams)
    assert (together[0] == 0).all()
    assert (together[2] == 1).all()
    torch.testing.assert_close(together[1:2], family.apply(score[1:2], family.level(score[1:2], lams[1:2])))


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
@pytest.mark.parametrize("lam", [-1.0, -math.inf, math.nan])
def test_a_lambda_that_the_family_refuses_closes_the_mask(family, lam):
    for score in scores():
        assert (mask_function(family)(score, torch.full((len(score),), lam, dtype=torch.float64)) == 0).all()


def test_rounding_is_never_up():
    generator = torch.Generator().manual_seed(1)
    values = torch.exp(20 * torch.randn(10_000, generator=generator, dtype=torch.float64))
    values[:20] = 2.0 ** torch.arange(-10, 10, dtype=torch.float64) * (1 - 1e-12)
    found = rounded_down_in_graph(values)
    assert (found.double() <= values).all()
    above = torch.nextafter(found, torch.tensor(math.inf))
    assert (above.double() > values).all(), "the nearest float32 that is not above"


def test_a_family_of_your_own_needs_a_level_in_the_graph():
    class Mine(Family):
        name = "mine"
        level, apply = Power.level, Power.apply

    with pytest.raises(MismatchError, match=r"family 'mine' .* level_in_graph"):
        mask_function(Mine())


@pytest.mark.skipif(
    os.environ.get("CONFORMASK_TYPES") == "1", reason="types are checked at every call in this run"
)
def test_an_object_that_only_calibration_takes_for_a_family_is_told_what_to_inherit():
    class Mine:
        name = "mine"
        level, apply, curve = Reciprocal().level, Reciprocal().apply, Reciprocal().curve
        critical_lambda, settings = Reciprocal().critical_lambda, Reciprocal().settings

    with pytest.raises(MismatchError, match=r"'mine' has to inherit from .*masks\.family\.Family"):
        mask_function(Mine())


def test_its_own_formula_is_exported():
    @dataclass(frozen=True)
    class Halved(Reciprocal):
        def apply(self, score, level):
            return super().apply(score, level) / 2

    score, lams = scores()[0], torch.full((3,), 0.1, dtype=torch.float64)
    assert torch.equal(mask_function(Halved())(score, lams), mask_function(Reciprocal())(score, lams) / 2)


@pytest.mark.thorough
def test_the_file_gives_the_masks_of_the_run(conformask, made, tmp_path):
    out = tmp_path / "new" / "masker.onnx"
    answer = conformask("export", made / "run", out, "--json")
    assert answer.status == 0, answer.err
    record = answer.record
    masker = load(made / "run")
    assert record["sentence"] == masker.sentence
    assert record["lambda"] == masker.rule.lam
    assert record["sizes"] == [[32, 32], [32, 64]]
    assert max(record["difference"].values()) <= record["tolerance"]
    batch = next(Triplets.from_folder(made / "data").part("test").batches(4))
    wanted = masker.masks(batch.x, batch.y_hat).numpy()
    lam = np.full(len(batch.names), record["lambda"])
    given = {"x": batch.x.numpy(), "y_hat": batch.y_hat.numpy(), "lam": lam}
    mask, _ = onnxruntime.InferenceSession(out).run(None, given)
    np.testing.assert_allclose(mask.mean((1, 2, 3)), wanted.mean((1, 2, 3)), atol=1e-5)
    assert (np.abs(mask - wanted) > 1e-3).mean() < 1e-3


def test_what_is_refused(conformask, own):
    for tokens, words in (
        (["export", own / "run", own / "masker.pt"], "must end with .onnx"),
        (["export", own / "data", own / "masker.onnx"], "calibrate it first"),
    ):
        answer = conformask(*tokens)
        assert answer.status == 1
        assert words in answer.err
        assert not tokens[2].exists()


def test_another_network_is_refused_as_mask_refuses_it(conformask, made, tmp_path):
    network = enlarging(tmp_path / "network.onnx", 4, 3)
    answer = conformask("export", made / "run", tmp_path / "whole.onnx", "--predictor", network)
    assert answer.status == 1
    assert "about outputs of bicubic, but these were made by network.onnx" in answer.err
    assert "--allow-network-mismatch" in answer.err
    assert not (tmp_path / "whole.onnx").exists()


def test_a_folder_says_what_nobody_gave(conformask, made, tmp_path):
    answer = conformask(
        "export", made / "run", tmp_path / "hub", "--format", "huggingface", "--author", "Ada L."
    )
    assert answer.status == 0, answer.err
    assert "Missing, because only you know it: license (--license), cite (--cite)." in answer.out
    assert load(tmp_path / "hub").sentence == load(made / "run").sentence
    whole = ("--license", "MIT", "--cite", "Doe 10.1000/182", "--author", "Ada L.", "--author", "Bo M.")
    answer = conformask("export", made / "run", tmp_path / "two", "--format", "huggingface", *whole, "--json")
    assert answer.record["missing"] == []
    assert "Authors: Ada L., Bo M." in (tmp_path / "two" / "README.md").read_text()


def test_options_of_another_form_are_bad_usage(conformask, made, tmp_path):
    for tokens, words in (
        (["--license", "MIT"], "describe a folder"),
        (
            ["--format", "huggingface", "--predictor", "network.onnx"],
            "--predictor puts a network into an ONNX file",
        ),
        (["--format", "zoo"], "onnx"),
    ):
        answer = conformask("export", made / "run", tmp_path / "out", *tokens)
        assert answer.status == 2
        assert words in answer.err
    assert not list(tmp_path.iterdir())
