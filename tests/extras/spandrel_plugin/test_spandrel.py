"""Small networks of three architectures, with random weights, by spandrel."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from conformask.cli import main
from conformask.errors import ImageError, MismatchError, MissingFileError
from conformask.extensions import pip_install
from conformask.extras.make.predictors import custom_predictor
from conformask.extras.spandrel import CONTEXT, TILE, from_file
from conformask.images.read import read_image, write_image

spandrel = pytest.importorskip("spandrel", reason="the extra spandrel is not installed")


def esrgan():
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

    return RRDBNet(num_filters=8, num_blocks=1, scale=4), 3, 4


def compact():
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    return SRVGGNetCompact(num_feat=8, num_conv=2, upscale=2), 3, 2


def dncnn():
    from spandrel.architectures.DnCNN import DnCNN

    return DnCNN(in_nc=1, out_nc=1, nc=8, nb=8, act_mode="R"), 1, 1


NETWORKS = (esrgan, compact, dncnn)


def saved(make, folder, suffix=".pth"):
    torch.manual_seed(0)
    network, channels, scale = make()
    path = folder / f"{make.__name__}{suffix}"
    state = {name: weights.contiguous() for name, weights in network.state_dict().items()}
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"params_ema": state}, path)
    return path, network.eval(), channels, scale


def images(channels, *size):
    return torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("make", NETWORKS)
def test_a_network_does_what_it_does_in_its_library(make, suffix, tmp_path):
    path, network, channels, scale = saved(make, tmp_path, suffix)
    predictor, x = custom_predictor(f"spandrel:{path}"), images(channels, 24, 17)
    with torch.no_grad():
        expected = network(x).clamp(0, 1)
    y_hat = predictor(x)
    assert y_hat.shape == (2, channels, scale * 24, scale * 17)
    torch.testing.assert_close(y_hat, expected, rtol=0, atol=1e-5)
    assert predictor.name == path.name
    assert predictor.fingerprint == from_file(path).fingerprint


def test_other_weights_have_another_fingerprint(tmp_path):
    path, network, *_ = saved(compact, tmp_path)
    before = from_file(path).fingerprint
    state = network.state_dict()
    next(iter(state.values()))[0] += 1e-3
    torch.save(state, path)
    assert from_file(path).fingerprint != before


@pytest.mark.parametrize("size", [(TILE + 1, 40), (530, 520)])
def test_a_large_image_is_run_by_tiles_without_seams(size, tmp_path):
    path, network, channels, _ = saved(compact, tmp_path)
    x = images(channels, *size)[:1]
    sizes: list[tuple[int, ...]] = []
    predictor = from_file(path)
    assert predictor.network is not None
    predictor.network.register_forward_hook(
        lambda module, given, made: sizes.append(tuple(given[0].shape[2:]))
    )
    y_hat = predictor(x)
    with torch.no_grad():
        torch.testing.assert_close(y_hat, network(x).clamp(0, 1), rtol=0, atol=1e-5)
    assert len(sizes) > 1
    assert max(map(max, sizes)) <= TILE
    assert CONTEXT > 4  # pixels that this network looks at on either side


def test_other_images_are_refused(tmp_path):
    predictor = from_file(saved(esrgan, tmp_path)[0])
    for x in (images(1, 8, 8), images(3, 4, 8, 8)):
        with pytest.raises(ImageError, match=r"esrgan.pth takes planes with 3 channels, not images of \("):
            predictor(x)


class Runs:
    """Pickled, a call."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_code_in_a_file_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"params": {"weight": torch.zeros(3)}, "more": Runs()}, "bad.pth")
    with pytest.raises(MismatchError, match=r"bad.pth is damaged, or contains more than weights") as caught:
        from_file("bad.pth")
    assert "\n" not in str(caught.value)
    assert not Path("ran").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_refused(suffix, tmp_path):
    path = saved(compact, tmp_path, suffix)[0]
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(MismatchError, match="is damaged, or contains more than weights"):
        from_file(path)
    with pytest.raises(MissingFileError, match=r"missing.pth does not exist"):
        from_file(tmp_path / "missing.pth")


@pytest.mark.parametrize("content", [{"weight": torch.zeros(3)}, torch.zeros(3)])
def test_weights_of_other_networks_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(
        MismatchError, match=r"contains no weights of an arch|not the weights of a network by"
    ):
        from_file(tmp_path / "a.pth")


def test_networks_for_other_purposes_are_refused(tmp_path, monkeypatch):
    path, network, *_ = saved(dncnn, tmp_path)
    masked = spandrel.MaskedImageModelDescriptor(
        network,
        network.state_dict(),
        spandrel.MAIN_REGISTRY.get("LaMa").architecture,
        purpose="Inpainting",
        tags=[],
        supports_half=False,
        supports_bfloat16=False,
        input_channels=4,
        output_channels=3,
    )
    monkeypatch.setattr(spandrel.ModelLoader, "load_from_state_dict", lambda self, state: masked)
    with pytest.raises(MismatchError, match="contains LaMa, which fills the holes of a mask: give a network"):
        from_file(path)


def test_without_spandrel_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(MissingFileError, match=re.escape(pip_install("spandrel"))):
        from_file(tmp_path / "a.pth")


def test_the_verb_writes_outputs(tmp_path):
    path = saved(compact, tmp_path)[0]
    for index in range(2):
        for role, side in (("x", 16), ("y", 32)):
            y = np.random.default_rng(index).random((3, side, side), np.float32)
            write_image(tmp_path / "data" / role / f"{index}.png", y)
    main(["triplets", str(tmp_path / "data"), "--predictor", f"spandrel:{path}"])
    x = read_image(tmp_path / "data" / "x" / "1.png")
    y_hat = read_image(tmp_path / "data" / "y_hat" / "1.png")
    np.testing.assert_allclose(y_hat, from_file(path)(torch.from_numpy(x[None]))[0], atol=1e-4)
