"""LPIPS, on random weights of torchvision's architectures, and on the real ones of SqueezeNet."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

from conformask.errors import InvalidArgumentError, MismatchError, MissingFileError
from conformask.extensions import pip_install
from conformask.losses import perceptual as lpips
from conformask.losses.distances import PERCEPTUAL, distance
from conformask.losses.perceptual import ALEXNET, SQUEEZENET, VGG16, Lpips, features, packaged
from conformask.testing import DistanceContract

models = pytest.importorskip("torchvision.models")

PUBLISHED = Path(__file__).parents[2].parent / "shared" / "weights" / "torch"
FILES = {
    SQUEEZENET: "squeezenet1_1-b8a52dc0.pth",
    ALEXNET: "alexnet-owt-7be5be79.pth",
    VGG16: "vgg16-397923af.pth",
}
BACKBONES = {"lpips": SQUEEZENET, "lpips_alex": ALEXNET, "lpips_vgg": VGG16}
NETS = {"lpips": "squeeze", "lpips_alex": "alex", "lpips_vgg": "vgg"}

GENERATOR = torch.Generator().manual_seed(0)
Y = torch.rand(4, 3, 40, 36, generator=GENERATOR)
Y_HAT = (
    Y + torch.tensor([0.02, 0.1, 0.4, 0.0]).view(4, 1, 1, 1) * torch.randn(Y.shape, generator=GENERATOR)
).clamp(0, 1)


def random_weights(backbone):
    """What torchvision's checkpoint holds below `features`, drawn as for training, and some of the rest."""
    with torch.device("meta"):
        network = models.get_model(backbone.architecture, weights=None)
    generator = torch.Generator().manual_seed(1)
    state = {"classifier.1.bias": torch.zeros(10)}
    for name, value in network.features.state_dict().items():
        scale = (2 / value[0].numel()) ** 0.5 if value.ndim == 4 else 0.05
        state[f"features.{name}"] = scale * torch.randn(value.shape, generator=generator)
    return state


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for backbone, file in FILES.items():
        torch.save(random_weights(backbone), folder / file)
    return folder


@pytest.fixture
def published(monkeypatch):
    """Torch hub's folder with SqueezeNet's real weights."""
    if not (PUBLISHED / "hub" / "checkpoints" / FILES[SQUEEZENET]).exists():
        pytest.skip(f"no published weights of SqueezeNet in {PUBLISHED.parent.name}/{PUBLISHED.name}")
    monkeypatch.delenv("TORCH_HUB", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(PUBLISHED))


class TestLpips(DistanceContract):
    shapes = ((1, 17, 17), (3, 24, 35))

    @pytest.fixture(autouse=True)
    def made(self, published):
        self.distance = distance("lpips")


class TestLpipsRandom(DistanceContract):
    shapes = ((1, 17, 17), (3, 24, 35))

    @pytest.fixture(autouse=True)
    def made(self, weights):
        self.distance = Lpips(weights_path=weights)


class TestLpipsAlex(DistanceContract):
    shapes = ((1, 31, 31), (3, 37, 40))

    @pytest.fixture(autouse=True)
    def made(self, weights):
        self.distance = Lpips("alex", str(weights))


class TestLpipsVgg(DistanceContract):
    @pytest.fixture(autouse=True)
    def made(self, weights):
        self.distance = Lpips("vgg", weights / FILES[VGG16])


def test_lpips_against_torchmetrics_with_the_published_weights(published):
    expected = learned_perceptual_image_patch_similarity(Y_HAT, Y, "squeeze", "none", normalize=True)
    torch.testing.assert_close(distance("lpips")(Y, Y_HAT), expected, rtol=1e-5, atol=1e-7)
    assert expected.argsort().tolist() == [3, 0, 1, 2]


@pytest.mark.parametrize("name", NETS)
def test_lpips_against_torchmetrics(name, weights, monkeypatch):
    monkeypatch.setattr(
        "torchmetrics.functional.image.lpips._get_tv_model_features",
        lambda *_: features(name, BACKBONES[name], weights / FILES[BACKBONES[name]]),
    )
    expected = learned_perceptual_image_patch_similarity(Y_HAT, Y, NETS[name], "none", normalize=True)
    assert len(set(expected.tolist())) == 4
    torch.testing.assert_close(distance(name, weights)(Y, Y_HAT), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", PERCEPTUAL)
def test_grey_is_repeated(name, weights):
    used, grey, other = distance(name, weights), Y[:, :1], Y_HAT[:, :1]
    torch.testing.assert_close(used(grey, other), used(grey.repeat(1, 3, 1, 1), other.repeat(1, 3, 1, 1)))
    with pytest.raises(InvalidArgumentError, match=f"{name} needs grey or colour images .* these have 2"):
        used(Y[:, :2], Y_HAT[:, :2])


@pytest.mark.parametrize("name", PERCEPTUAL)
def test_one_image_values_above_1_and_autocast(name, weights):
    used = distance(name, weights)
    value = used(1.05 * Y[:1], 1.05 * Y_HAT[:1])
    assert value.shape == (1,)
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(used(1.05 * Y[:1], 1.05 * Y_HAT[:1]), value)


@pytest.mark.parametrize("name", PERCEPTUAL)
def test_gradient_between_black_images(name, weights):
    a, b = torch.zeros(2, 1, 1, 32, 32), torch.zeros(1, 1, 32, 32, requires_grad=True)
    distance(name, weights)(a[0], b).sum().backward()
    assert b.grad.isfinite().all()


@pytest.mark.parametrize("name", PERCEPTUAL)
def test_the_smallest_size(name, weights):
    used, side = distance(name, weights), BACKBONES[name].smallest_side
    used(torch.zeros(1, 1, side, side), torch.ones(1, 1, side, side))
    with pytest.raises(InvalidArgumentError, match=rf"{name} needs .* {side} pixels .* \(40, {side - 1}\)"):
        used(torch.zeros(1, 1, 40, side - 1), torch.zeros(1, 1, 40, side - 1))


@pytest.mark.parametrize("backbone", [SQUEEZENET, ALEXNET])
def test_a_smaller_size_would_fail(backbone):
    with torch.device("meta"):
        layers = models.get_model(backbone.architecture, weights=None).features[: backbone.taps[-1] + 1]
    layers(torch.zeros(1, 3, backbone.smallest_side, backbone.smallest_side, device="meta"))
    with pytest.raises(RuntimeError):
        layers(torch.zeros(1, 3, backbone.smallest_side - 1, backbone.smallest_side - 1, device="meta"))


def test_the_map_of_lpips_is_large_where_the_error_is(weights):
    y = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    y_hat = y.clone()
    y_hat[..., 40:] = 1 - y_hat[..., 40:]
    error = Lpips(weights_path=weights).error_map(y, y_hat)
    assert torch.equal(error[:, 0], error[:, 2])
    assert error[..., 48:].mean() > 4 * error[..., :24].mean()
    assert float(error.mean()) == pytest.approx(float(Lpips(weights_path=weights)(y, y_hat)), rel=0.1)


@pytest.mark.parametrize("name", PERCEPTUAL)
def test_missing_weights(name, tmp_path, monkeypatch):
    monkeypatch.delenv("TORCH_HUB", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    used, file = distance(name), FILES[BACKBONES[name]]
    assert used.name == name
    folder = tmp_path / "home" / "hub" / "checkpoints"
    told = rf"{name} needs .*{folder / file}: put https://\S*{file} into .*{folder}, .* weights_path="
    with pytest.raises(MissingFileError, match=told):
        used(Y, Y_HAT)
    assert not (tmp_path / "home").exists()
    for given in (tmp_path, tmp_path / file):
        with pytest.raises(MissingFileError, match=f"no file {tmp_path / file}: put"):
            distance(name, given)(Y, Y_HAT)


def test_missing_torchvision(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchvision.models", None)
    used = distance("lpips")
    with pytest.raises(InvalidArgumentError, match=re.escape(f"torchvision: {pip_install('perceptual')}")):
        used(Y, Y_HAT)


def test_missing_torchmetrics(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchmetrics", None)
    with pytest.raises(InvalidArgumentError, match=re.escape(f"torchmetrics: {pip_install('perceptual')}")):
        packaged("lpips", "lpips_models/squeeze.pth")


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return Path.mkdir, (self.folder,)


def test_files_that_are_not_the_weights(tmp_path, weights):
    torch.save({"features.0.weight": Malicious(tmp_path / "harm")}, tmp_path / "code.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "empty.pth").write_text("")
    (tmp_path / "cut.pth").write_bytes((weights / FILES[SQUEEZENET]).read_bytes()[:1000])
    shutil.copy(weights / FILES[ALEXNET], tmp_path / "other.pth")
    for file in ("code", "list", "text", "empty", "cut", "other"):
        with pytest.raises(
            MismatchError, match=rf"{file}.pth does not contain .* of squeezenet1_1, which lpips"
        ):
            distance("lpips", tmp_path / f"{file}.pth")(Y, Y_HAT)
    assert not (tmp_path / "harm").exists()


def test_an_older_torchmetrics():
    with pytest.raises(MissingFileError, match=r"torchmetrics>=1.7"):
        packaged("lpips", "no_models/weights.pt")


def test_the_network_is_read_once_and_frozen(tmp_path, weights):
    shutil.copy(weights / FILES[SQUEEZENET], tmp_path)
    random_numbers, misses = torch.get_rng_state(), lpips._network.cache_info().misses
    with torch.inference_mode():
        expected = distance("lpips", tmp_path)(Y, Y_HAT)
    y_hat = Y_HAT.clone().requires_grad_()
    value = distance("lpips", tmp_path / FILES[SQUEEZENET])(Y, y_hat)
    torch.testing.assert_close(value.detach(), expected.clone())
    value.sum().backward()
    assert y_hat.grad.abs().sum() > 0
    assert lpips._network.cache_info().misses == misses + 1
    assert torch.equal(torch.get_rng_state(), random_numbers)
    network: nn.Module = lpips._network("squeeze", (tmp_path / FILES[SQUEEZENET]).resolve(), Y.device)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_unknown_net():
    with pytest.raises(InvalidArgumentError, match=r"net 'squeezed' is unknown.*did you mean 'squeeze'"):
        Lpips("squeezed")
