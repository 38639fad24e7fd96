"""Denoisers and reconstructors of deepinv, held to what deepinv returns."""

import json

import numpy as np
import pytest
import torch

from conformask.cli import main
from conformask.errors import InvalidArgumentError
from conformask.extras.make.deepinv import from_denoiser, from_reconstructor
from conformask.extras.make.triplets import add_outputs
from conformask.images.triplets import Triplets
from conformask.records.reading import Reading
from synthetic_triplets import noisy_pairs

dinv = pytest.importorskip("deepinv", reason="the extra deepinv is not installed")

MODULE = """
import torch
import deepinv as dinv
from conformask.extras.make.deepinv import from_denoiser

torch.manual_seed(0)
restore = from_denoiser(dinv.models.MedianFilter(kernel_size=3), sigma=0.05)
"""


def network(seed=0):
    torch.manual_seed(seed)
    return dinv.models.DnCNN(in_channels=1, out_channels=1, depth=3, nf=4, pretrained=None)


def test_a_denoiser_by_command_line(tmp_path, monkeypatch, capsys):
    data = noisy_pairs(tmp_path / "data", (12, 20))
    (tmp_path / "mine_of_deepinv.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    main(["triplets", str(data), "--predictor", "mine_of_deepinv:restore", "--json"])
    assert json.loads(capsys.readouterr().out)["n"] == 3
    made = Triplets.from_folder(data)
    for triplet in made:
        expected = dinv.models.MedianFilter(kernel_size=3)(torch.from_numpy(triplet.x)[None], 0.05)[0]
        np.testing.assert_allclose(triplet.y_hat, expected, atol=2e-5)
    assert made.network is not None
    assert made.network.name == "MedianFilter"


def test_a_reconstructor_of_smaller_images(tmp_path):
    data = noisy_pairs(tmp_path / "data", (12, 20), factor=2)
    physics = dinv.physics.Downsampling(img_size=(1, 12, 20), factor=2, filter="bicubic")
    model = dinv.models.ArtifactRemoval(network(), mode="pinv").eval()
    add_outputs(data, from_reconstructor(model, physics))
    for triplet in Triplets.from_folder(data):
        assert triplet.x.shape == (1, 6, 10)
        with torch.no_grad():
            expected = model(torch.from_numpy(triplet.x)[None], physics)[0].clamp(0, 1)
        np.testing.assert_allclose(triplet.y_hat, expected, atol=2e-5)


def test_samplers_draw_as_any_other_network(tmp_path):
    """With a denoiser that needs no weights."""
    sampler = dinv.sampling.DDRM(dinv.models.TVDenoiser(n_it_max=5), sigmas=np.linspace(1, 0, 5))
    physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(0.1))
    data = noisy_pairs(tmp_path / "data", (12, 20))
    add_outputs(data, from_reconstructor(sampler, physics), cues="samples,3", show="mean")
    made = Triplets.from_folder(data, reading=Reading(cues="cues"))
    assert made.network is not None
    assert made.network.name == "DDRM (samples,3 --show mean)"
    assert all(triplet.layers["cues"].min() > 0 for triplet in made)


def test_they_are_known_by_what_decides_their_outputs():
    median = dinv.models.MedianFilter
    removal = dinv.models.ArtifactRemoval(network())
    blur = [
        dinv.physics.Blur(filter=dinv.physics.functional.blur.gaussian_blur(sigma=(s, s))) for s in (1, 2)
    ]
    smaller = [dinv.physics.Downsampling(img_size=(1, 8, 8), factor=f, filter="bicubic") for f in (2, 4)]
    made = [
        *(from_denoiser(network(seed), 0.1) for seed in (0, 1)),
        from_denoiser(network(), 0.2),
        *(from_denoiser(median(kernel_size=size), 0.1) for size in (3, 5)),
        *(from_reconstructor(removal, physics) for physics in (*blur, *smaller)),
    ]
    assert len({predictor.fingerprint for predictor in made}) == len(made)
    assert from_denoiser(network(), 0.1).fingerprint == made[0].fingerprint


def test_one_is_not_the_other():
    with pytest.raises(InvalidArgumentError, match=r"DnCNN is not a deepinv\.models\.Reconstructor"):
        from_reconstructor(network(), dinv.physics.Denoising())
    with pytest.raises(InvalidArgumentError, match=r"ArtifactRemoval is not a deepinv\.models\.Denoiser"):
        from_denoiser(dinv.models.ArtifactRemoval(network()), 0.1)
