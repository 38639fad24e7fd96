"""Exported files in onnxruntime, against the masker that they come from."""

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conformask.errors import InvalidArgumentError, MismatchError, MissingFileError, OutputError
from conformask.extensions import pip_install
from conformask.extras.export import onnx as exporting
from conformask.extras.export import onnx_graph as graphs
from conformask.extras.export.onnx import Export, export
from conformask.losses import loss
from conformask.losses.means import Mean
from conformask.masker.calibrate import calibrate
from conformask.masker.masker import Masker
from conformask.masks.families import family
from conformask.masks.family import Family
from conformask.promises.promise import Promise
from conformask.records.record import to_jsonable
from conformask.scores.network_scorer import NetworkScorer, ScorerCard, head
from conformask.scores.networks import UNet
from conformask.scores.scorer import Heuristic
from conformask.scores.steps import Tiled
from levels import levelled
from synthetic_triplets import scale_of, triplets

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

pytestmark = pytest.mark.xdist_group("export")
SIDE = 16
CALIBRATION, SELECTION = triplets(40, 0, (SIDE, SIDE), 3), triplets(30, 1, (SIDE, SIDE), 3)
TEST = next(triplets(5, 2, (SIDE, SIDE), 3).batches(5))


def scorer(network: nn.Module, per_channel: bool = False) -> NetworkScorer:
    """x has one channel, y_hat three."""
    card = ScorerCard(
        scorer="mask", loss=Mean("l1"), channels=3, x_channels=1, per_channel=per_channel,
        sizes=((SIDE, SIDE),), unet=getattr(network, "settings", None), trained_on=(),
    )  # fmt: skip
    return NetworkScorer(network.eval().requires_grad_(False), head("mask", loss("l1")), card)


def unet(outputs: int = 1) -> UNet:
    torch.manual_seed(0)
    return UNet(4, outputs, width=4, levels=3)


def calibrated(score, **more) -> Masker:
    return calibrate(score, CALIBRATION, threshold=0.03, loss="l1", level="one", **more)


@dataclass(frozen=True)
class Exported:
    """A masker, what export said, and the file in onnxruntime."""

    masker: Masker
    done: Export
    session: onnxruntime.InferenceSession

    def __call__(self, x: Tensor, y_hat: Tensor, lam) -> list[np.ndarray]:
        lams = np.broadcast_to(np.float64(lam), len(y_hat)).copy()
        return self.session.run(None, {"x": x.numpy(), "y_hat": y_hat.numpy(), "lam": lams})

    def masks(self, lam: float) -> np.ndarray:
        return self(TEST.x, TEST.y_hat, lam)[0]


def exported(masker: Masker, folder: Path) -> Exported:
    done = export(masker, folder / "masker.onnx")
    assert [path.name for path in folder.iterdir()] == ["masker.onnx"], "one file, nothing beside it"
    return Exported(masker, done, onnxruntime.InferenceSession(done.path))


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Exported:
    return exported(calibrated(scorer(unet()), selection=SELECTION), tmp_path_factory.mktemp("network"))


@pytest.mark.thorough
def test_the_calibrated_lambda_gives_the_maskers_masks(network: Exported) -> None:
    lam = float(network.session.get_modelmeta().custom_metadata_map["lambda"])
    assert lam == network.done.lam == network.masker.rule.lam
    score, wanted = network.masker.scorer(TEST.x, TEST.y_hat), network.masker.masks(TEST.x, TEST.y_hat)
    mask, found = network(TEST.x, TEST.y_hat, lam)
    assert 0 < float(wanted.mean()) < 1
    assert mask.dtype == np.float32
    np.testing.assert_allclose(found, score.map.numpy(), atol=1e-6)
    np.testing.assert_allclose(mask.mean((1, 2, 3)), wanted.mean((1, 2, 3)).numpy(), atol=1e-5)


@pytest.mark.slow  # tests/cli/test_export_verb.py exports a level too, and the export itself compares
def test_a_level_for_each_image_is_in_the_graph(network: Exported, tmp_path: Path) -> None:
    file = exported(levelled(network.masker, TEST.x, TEST.y_hat), tmp_path)
    scores = file.masker.scorer(TEST.x, TEST.y_hat).map.numpy()
    found = file(TEST.x, TEST.y_hat, file.done.lam)[1]
    np.testing.assert_allclose(found, scores, rtol=5e-3, atol=1e-5)  # of float32 features
    ratios = (network.masker.scorer(TEST.x, TEST.y_hat).map.numpy() / scores).mean((1, 2, 3))
    assert ratios.max() > 1.5 * ratios.min()


@pytest.mark.thorough
@pytest.mark.parametrize("gain", [1.0, 1 / 255])
def test_a_file_says_which_means_are_far_outside_as_the_masker_does(network: Exported, gain: float) -> None:
    limits = json.loads(network.session.get_modelmeta().custom_metadata_map["limits_of_means"])
    x = gain * TEST.x
    means = {"x": x, "y_hat": TEST.y_hat, "score": network(x, TEST.y_hat, network.done.lam)[1]}
    assert limits.keys() == means.keys()
    far = [name for name, (low, high) in limits.items() if not low <= float(means[name][0].mean()) <= high]
    assert far == ["x"] * (gain < 1)
    assert bool(network.masker.check(x[:1], TEST.y_hat[:1])[0]) == bool(far)


@pytest.mark.thorough
@pytest.mark.parametrize("threshold", [0.02, 0.04])
def test_recalibration_needs_no_new_export(network: Exported, threshold: float) -> None:
    again = network.masker.recalibrate(threshold=threshold, confidence=0.8)
    assert again.rule.lam != network.masker.rule.lam
    wanted = again.masks(TEST.x, TEST.y_hat).numpy()
    found = network.masks(again.rule.lam)
    assert (np.abs(found - wanted) > 1e-3).mean() < 1e-3
    np.testing.assert_allclose(found.mean((1, 2, 3)), wanted.mean((1, 2, 3)), atol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("count", "size", "of_x"), [(1, (16, 16), (16, 16)), (3, (21, 35), (5, 70)), (7, (8, 130), (8, 130))]
)
def test_any_batch_and_any_size(network: Exported, count: int, size, of_x) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(count, 1, *of_x, generator=generator)
    y_hat = torch.rand(count, 3, *size, generator=generator)
    lam = np.linspace(0, 2 * network.done.lam, count)
    mask, found = network(x, y_hat, lam)
    score = network.masker.scorer(x, y_hat).map
    chosen = network.masker.family
    wanted = chosen.apply(score, chosen.level(score, torch.from_numpy(lam)))
    np.testing.assert_allclose(found, score.numpy(), atol=1e-5)
    np.testing.assert_allclose(mask.mean((1, 2, 3)), wanted.mean((1, 2, 3)).numpy(), atol=1e-5)


@pytest.mark.thorough
def test_a_network_that_halves_its_images_down_to_one_pixel(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = exported(calibrated(scorer(UNet(4, 1, width=4, levels=4))), tmp_path)
    for size in ((16, 16), (32, 48)):
        x, y_hat = torch.rand(1, 1, *size), torch.rand(1, 3, *size)
        found = network(x, y_hat, network.done.lam)[1]
        np.testing.assert_allclose(found, network.masker.scorer(x, y_hat).map.numpy(), atol=1e-5)


@pytest.mark.thorough
def test_the_file_says_what_it_is(network: Exported) -> None:
    told = network.session.get_modelmeta().custom_metadata_map
    assert told["promise"] == network.masker.sentence
    assert told["tolerance"] == "0.0001"
    assert json.loads(told["calibration"]) == to_jsonable(network.masker.card.to_json())
    tensors = (*network.session.get_inputs(), *network.session.get_outputs())
    assert {tensor.name: tensor.shape for tensor in tensors} == {
        "x": ["n", 1, "hx", "wx"],
        "y_hat": ["n", 3, "h", "w"],
        "lam": ["n"],
        "mask": ["n", 1, "h", "w"],
        "score": ["n", 1, "h", "w"],
    }
    assert b".py" not in network.done.path.read_bytes(), "no path of the machine that made it"


@pytest.mark.thorough
def test_what_pytorch_refuses_is_masked(network: Exported) -> None:
    x, y_hat, lam = TEST.x.clone(), TEST.y_hat.clone(), np.full(5, math.inf)
    x[0, 0, 3, 3] = math.nan
    y_hat[1, 2, 0, 0] = 1.5
    x[2, 0, 0, 0] = -math.inf
    lam[3] = math.nan
    mask, _ = network(x, y_hat, lam)
    assert mask.max((1, 2, 3)).tolist() == [0, 0, 0, 0, 1]
    assert mask[4].min() == 1


@pytest.mark.thorough
@pytest.mark.parametrize(
    "settings",
    [
        {"name": "reciprocal"},
        {"name": "power", "gamma": 3.0},
        {"name": "water_filling", "exponent": 1.0},
        {"name": "water_filling", "exponent": 1.5, "kappa": -1.0},
    ],
    ids=str,
)
def test_every_family_runs_in_onnxruntime(settings, tmp_path: Path) -> None:
    def coarse(x: Tensor, y_hat: Tensor) -> Tensor:
        """With ties and zeros."""
        return (y_hat * 8).floor() / 8

    own = Heuristic(coarse, channels=3, per_channel=True)
    made = exported(calibrated(own, family=family(settings), promise=Promise(confidence=0.5)), tmp_path)
    y_hat = torch.cat([TEST.y_hat, torch.zeros(1, 3, SIDE, SIDE), torch.full((1, 3, SIDE, SIDE), 0.3)])
    x, score = y_hat[:, :1], coarse(y_hat, y_hat)
    for lam in (0.0, 1e-30, 0.01, 0.1, 0.2, 0.5, 1.0, 5.0, 1e300, math.inf):
        lams = torch.full((len(y_hat),), lam, dtype=torch.float64)
        wanted = made.masker.family.apply(score, made.masker.family.level(score, lams))
        mask, found = made(x, y_hat, lam)
        assert (found == score.numpy()).all()
        np.testing.assert_allclose(mask, wanted.numpy(), atol=2e-6, err_msg=str(lam))


@pytest.mark.thorough
def test_levels_are_rounded_down_in_onnxruntime_too(tmp_path: Path) -> None:
    own = Heuristic(scale_of, channels=1, family="reciprocal")
    made = exported(calibrate(own, triplets(40, 0), threshold=0.03, loss="l1"), tmp_path)
    images = torch.full((200, 1, 4, 4), 0.5)
    lam = torch.rand(200, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) / 2
    mask, score = made(images, images, lam.numpy())
    wanted = made.masker.family.apply(images, made.masker.family.level(images, lam))
    assert (score == 0.5).all()
    assert (mask == wanted.numpy()).all(), "to the last bit: a sum and a division"


@pytest.mark.thorough
def test_a_promise_by_category(tmp_path: Path) -> None:
    kinds = triplets(40, 0, categories=["a", "b"] * 20)
    masker = calibrate(
        Heuristic(scale_of, channels=1), kinds, threshold=0.03, loss="l1", promise="categories"
    )
    made = exported(masker, tmp_path)
    told = made.session.get_modelmeta().custom_metadata_map
    assert made.done.lam is None
    assert "lambda" not in told
    assert told["lambda_depends_on"] == "category"
    lambdas = json.loads(told["calibration"])["rule"]["lambdas"]
    batch = next(triplets(4, 2).batches(4))
    found = made(batch.x, batch.y_hat, [lambdas[kind] for kind in "abba"])[0]
    wanted = masker.masks(batch.x, batch.y_hat, category=list("abba"))
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-6)


class Fixed(nn.Module):
    """A network that takes one size only."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mixed = nn.Linear(4 * SIDE**2, SIDE**2)

    def forward(self, image: Tensor) -> Tensor:
        return self.mixed(image.flatten(1)).reshape(-1, 1, SIDE, SIDE)


@pytest.mark.thorough
def test_a_network_of_one_size(tmp_path: Path) -> None:
    made = exported(calibrated(scorer(Fixed())), tmp_path)
    assert made.done.agreement.sizes == ((SIDE, SIDE),)
    wanted = made.masker.masks(TEST.x, TEST.y_hat).mean((1, 2, 3)).numpy()
    np.testing.assert_allclose(made.masks(made.done.lam).mean((1, 2, 3)), wanted, atol=1e-5)


class Branching(nn.Module):
    """What it computes depends on a value, which no graph can hold."""

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :1] if image.mean() > 0 else image[:, 1:2]


BEFORE = onnx.ModelProto(producer_name="conformask", doc_string="an earlier one").SerializeToString()


@pytest.mark.thorough
def test_a_model_of_the_users_is_not_replaced(plain_masker: Masker, tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(onnx.ModelProto(ir_version=10, producer_name="pytorch").SerializeToString())
    with pytest.raises(OutputError, match=r"mine\.onnx is in the way"):
        export(plain_masker, path)
    path.unlink()
    export(plain_masker, path)
    export(plain_masker, path)


def refused(masker: Masker, folder: Path, error: type[Exception], match: str) -> None:
    path = folder / "masker.onnx"
    path.write_bytes(BEFORE)
    with pytest.raises(error, match=match) as stop:
        export(masker, path)
    assert "\n" not in str(stop.value)
    assert path.read_bytes() == BEFORE
    assert list(folder.iterdir()) == [path]


def test_a_network_that_cannot_be_exported(tmp_path: Path) -> None:
    branching = calibrated(scorer(Branching()))
    refused(branching, tmp_path, MismatchError, "cannot be exported to ONNX; torch reports: .*data-dependent")


@pytest.fixture(scope="module")
def plain_masker() -> Masker:
    """Quick to export."""
    return calibrate(Heuristic(scale_of, channels=1), triplets(40, 0), threshold=0.03, loss="l1")


@pytest.mark.thorough
def test_a_file_that_differs_is_not_written(plain_masker: Masker, tmp_path: Path, monkeypatch) -> None:
    def looser(chosen):
        opened = graphs_opening(chosen)
        return lambda score, lam: opened(score, 1.01 * lam)

    graphs_opening = graphs.mask_function
    monkeypatch.setattr(graphs, "mask_function", looser)
    refused(plain_masker, tmp_path, MismatchError, r"onnxruntime differs from PyTorch .* 0.0001 is allowed")


def test_what_cannot_be_written_is_refused_before_the_work(
    plain_masker: Masker, tmp_path, monkeypatch
) -> None:
    with pytest.raises(InvalidArgumentError, match=r"must end with \.onnx"):
        export(plain_masker, tmp_path / "masker.pt")
    adaptive = calibrated(scorer(unet()), selection=SELECTION, promise="adaptive")
    refused(adaptive, tmp_path, InvalidArgumentError, "adaptive promise .* features, .* conformask mask")
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxscript" else object())
    refused(plain_masker, tmp_path, MissingFileError, re.escape(f"needs onnxscript: {pip_install('onnx')}"))


def test_whole_images_by_tiles(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="scored by tiles, but a graph scores in one pass"):
        export(calibrated(Tiled(scorer(unet()))), tmp_path / "masker.onnx")
    assert not list(tmp_path.iterdir())


def test_a_family_of_your_own(plain_masker: Masker, tmp_path: Path) -> None:
    class Mine(Family):
        name = "mine"
        level, apply = plain_masker.family.level, plain_masker.family.apply

    refused(replace(plain_masker, family=Mine()), tmp_path, MismatchError, "your own family 'mine'")


def test_a_folder_that_cannot_be_written_to(plain_masker: Masker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match="cannot write"):
        export(plain_masker, tmp_path / "file" / "masker.onnx")
