"""Exported files in onnxruntime, against the masker that they come from."""

import json
import math
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

import conformask as cm
from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError, OutputError
from conformask.extensions import pip_install
from conformask.extras.export import onnx as exporting, onnx_graph as graphs
from conformask.extras.export.onnx import Export, check_file, export, load_predictor, metadata
from conformask.extras.export.onnx_graph import OPSET, AfterPredictor, predictor_graph
from conformask.extras.make.predictors import custom_predictor
from conformask.losses import loss
from conformask.losses.means import Mean
from conformask.masker.calibrate import calibrate
from conformask.masker.masker import Masker
from conformask.masks.families import family
from conformask.masks.family import Family
from conformask.promises.promise import Promise
from conformask.records.reading import Network
from conformask.records.record import to_jsonable
from conformask.scores.network_scorer import NetworkScorer, ScorerCard, head, network_input
from conformask.scores.networks import AnyChannels, UNet
from conformask.scores.scorer import Heuristic, Tiled
from made_maskers import levelled
from onnx_predictors import blurring, enlarging, saved
from synthetic_triplets import scale_of, triplets

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytestmark = pytest.mark.xdist_group("export")
SIDE = 16
CALIBRATION, SELECTION = triplets(40, 0, (SIDE, SIDE), 3), triplets(30, 1, (SIDE, SIDE), 3)
TEST = next(triplets(5, 2, (SIDE, SIDE), 3).batches(5))


def scorer(network, per_channel=False):
    """x has one channel, y_hat three."""
    card = ScorerCard(
        scorer="mask", loss=Mean("l1"), channels=3, x_channels=1, per_channel=per_channel,
        sizes=((SIDE, SIDE),), unet=getattr(network, "settings", None), trained_on=(),
    )  # fmt: skip
    return NetworkScorer(network.eval().requires_grad_(False), head("mask", loss("l1")), card)


def unet(outputs=1):
    torch.manual_seed(0)
    return UNet(4, outputs, width=4, levels=3)


def calibrated(score, **more):
    return calibrate(score, CALIBRATION, threshold=0.03, loss="l1", level="one", **more)


@dataclass(frozen=True)
class Exported:
    """A masker, what export said, and the file in onnxruntime."""

    masker: Masker
    done: Export
    session: onnxruntime.InferenceSession

    def __call__(self, x, y_hat, lam):
        lams = np.broadcast_to(np.float64(lam), len(y_hat)).copy()
        return self.session.run(None, {"x": x.numpy(), "y_hat": y_hat.numpy(), "lam": lams})

    def masks(self, lam):
        return self(TEST.x, TEST.y_hat, lam)[0]


def exported(masker, folder):
    done = export(masker, folder / "masker.onnx")
    assert [path.name for path in folder.iterdir()] == ["masker.onnx"], "one file, nothing beside it"
    return Exported(masker, done, onnxruntime.InferenceSession(done.path))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return exported(calibrated(scorer(unet()), selection=SELECTION), tmp_path_factory.mktemp("network"))


@pytest.mark.thorough
def test_the_calibrated_lambda_gives_the_maskers_masks(network):
    lam = float(network.session.get_modelmeta().custom_metadata_map["lambda"])
    assert lam == network.done.lam == network.masker.rule.lam
    score, wanted = network.masker.scorer(TEST.x, TEST.y_hat), network.masker.masks(TEST.x, TEST.y_hat)
    mask, found = network(TEST.x, TEST.y_hat, lam)
    assert 0 < float(wanted.mean()) < 1
    assert mask.dtype == np.float32
    np.testing.assert_allclose(found, score.map.numpy(), atol=1e-6)
    np.testing.assert_allclose(mask.mean((1, 2, 3)), wanted.mean((1, 2, 3)).numpy(), atol=1e-5)


@pytest.mark.thorough
def test_a_score_with_shifts(tmp_path):
    torch.manual_seed(0)
    network = AnyChannels(1, 3, widths=(4, 6), shifts=True)
    torch.nn.init.normal_(network.shift.weight)
    card = replace(scorer(unet()).card, scorer="laplace", unet=network.settings)
    law = NetworkScorer(network.eval().requires_grad_(False), head("laplace", loss("l1")), card)
    file = exported(calibrated(law, selection=SELECTION), tmp_path)
    assert (network(network_input(TEST.x, TEST.y_hat))[:, 1:].abs() > 1e-3).float().mean() > 0.9
    found = file(TEST.x, TEST.y_hat, file.done.lam)[1]
    np.testing.assert_allclose(found, law(TEST.x, TEST.y_hat).map.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.thorough
def test_a_level_for_each_image_is_in_the_graph(network, tmp_path):
    file = exported(levelled(network.masker, TEST.x, TEST.y_hat), tmp_path)
    scores = file.masker.scorer(TEST.x, TEST.y_hat).map.numpy()
    found = file(TEST.x, TEST.y_hat, file.done.lam)[1]
    np.testing.assert_allclose(found, scores, rtol=2e-6, atol=1e-6)  # weights may add up to thousands
    ratios = (network.masker.scorer(TEST.x, TEST.y_hat).map.numpy() / scores).mean((1, 2, 3))
    assert ratios.max() > 1.5 * ratios.min()


@pytest.mark.thorough
@pytest.mark.parametrize("gain", [1.0, 1 / 255])
def test_a_file_says_which_means_are_far_outside_as_the_masker_does(network, gain):
    limits = json.loads(network.session.get_modelmeta().custom_metadata_map["limits_of_means"])
    x = gain * TEST.x
    means = {"x": x, "y_hat": TEST.y_hat, "score": network(x, TEST.y_hat, network.done.lam)[1]}
    assert limits.keys() == means.keys()
    far = [name for name, (low, high) in limits.items() if not low <= float(means[name][0].mean()) <= high]
    assert far == ["x"] * (gain < 1)
    assert bool(network.masker.check(x[:1], TEST.y_hat[:1])[0]) == bool(far)


@pytest.mark.thorough
@pytest.mark.parametrize("threshold", [0.02, 0.04])
def test_recalibration_needs_no_new_export(network, threshold):
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
def test_any_batch_and_any_size(network, count, size, of_x):
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
def test_a_network_that_halves_its_images_down_to_one_pixel(tmp_path):
    torch.manual_seed(0)
    network = exported(calibrated(scorer(UNet(4, 1, width=4, levels=4))), tmp_path)
    for size in ((16, 16), (32, 48)):
        x, y_hat = torch.rand(1, 1, *size), torch.rand(1, 3, *size)
        found = network(x, y_hat, network.done.lam)[1]
        np.testing.assert_allclose(found, network.masker.scorer(x, y_hat).map.numpy(), atol=1e-5)


@pytest.mark.thorough
def test_the_file_says_what_it_is(network):
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
def test_what_pytorch_refuses_is_masked(network):
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
def test_every_family_runs_in_onnxruntime(settings, tmp_path):
    def coarse(x, y_hat):
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
def test_levels_are_rounded_down_in_onnxruntime_too(tmp_path):
    own = Heuristic(scale_of, channels=1, family="reciprocal")
    made = exported(calibrate(own, triplets(40, 0), threshold=0.03, loss="l1"), tmp_path)
    images = torch.full((200, 1, 4, 4), 0.5)
    lam = torch.rand(200, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) / 2
    mask, score = made(images, images, lam.numpy())
    wanted = made.masker.family.apply(images, made.masker.family.level(images, lam))
    assert (score == 0.5).all()
    assert (mask == wanted.numpy()).all(), "to the last bit: a sum and a division"


@pytest.mark.thorough
def test_a_promise_by_category(tmp_path):
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

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.mixed = nn.Linear(4 * SIDE**2, SIDE**2)

    def forward(self, image):
        return self.mixed(image.flatten(1)).reshape(-1, 1, SIDE, SIDE)


@pytest.mark.thorough
def test_a_network_of_one_size(tmp_path):
    made = exported(calibrated(scorer(Fixed())), tmp_path)
    assert made.done.agreement.sizes == ((SIDE, SIDE),)
    wanted = made.masker.masks(TEST.x, TEST.y_hat).mean((1, 2, 3)).numpy()
    np.testing.assert_allclose(made.masks(made.done.lam).mean((1, 2, 3)), wanted, atol=1e-5)


class Branching(nn.Module):
    """What it computes depends on a value, which no graph can hold."""

    def forward(self, image):
        return image[:, :1] if image.mean() > 0 else image[:, 1:2]


BEFORE = onnx.ModelProto(producer_name="conformask", doc_string="an earlier one").SerializeToString()


@pytest.mark.thorough
def test_a_model_of_the_users_is_not_replaced(plain_masker, tmp_path):
    path = tmp_path / "mine.onnx"
    path.write_bytes(onnx.ModelProto(ir_version=10, producer_name="pytorch").SerializeToString())
    with pytest.raises(OutputError, match=r"mine\.onnx is in the way"):
        export(plain_masker, path)
    path.unlink()
    export(plain_masker, path)
    export(plain_masker, path)


def refused(masker, folder, error, match):
    path = folder / "masker.onnx"
    path.write_bytes(BEFORE)
    with pytest.raises(error, match=match) as stop:
        export(masker, path)
    assert "\n" not in str(stop.value)
    assert path.read_bytes() == BEFORE
    assert list(folder.iterdir()) == [path]


def test_a_network_that_cannot_be_exported(tmp_path):
    branching = calibrated(scorer(Branching()))
    refused(branching, tmp_path, MismatchError, "cannot be exported to ONNX; torch reports: .*data-dependent")


@pytest.fixture(scope="module")
def plain_masker():
    """Quick to export."""
    return calibrate(Heuristic(scale_of, channels=1), triplets(40, 0), threshold=0.03, loss="l1")


@pytest.mark.thorough
def test_a_file_that_differs_is_not_written(plain_masker, tmp_path, monkeypatch):
    def looser(chosen):
        opened = graphs_opening(chosen)
        return lambda score, lam: opened(score, 1.01 * lam)

    graphs_opening = graphs.mask_function
    monkeypatch.setattr(graphs, "mask_function", looser)
    refused(plain_masker, tmp_path, MismatchError, r"onnxruntime differs from PyTorch .* 0.0001 is allowed")


def test_what_cannot_be_written_is_refused_before_the_work(plain_masker, tmp_path, monkeypatch):
    with pytest.raises(InvalidArgumentError, match=r"must end with \.onnx"):
        export(plain_masker, tmp_path / "masker.pt")
    adaptive = calibrated(scorer(unet()), selection=SELECTION, promise="adaptive")
    refused(adaptive, tmp_path, InvalidArgumentError, "adaptive promise .* features, .* conformask mask")
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxscript" else object())
    refused(plain_masker, tmp_path, MissingFileError, re.escape(f"needs onnxscript: {pip_install('onnx')}"))


def test_whole_images_by_tiles(tmp_path):
    with pytest.raises(InvalidArgumentError, match="scored by tiles, but a graph scores in one pass"):
        export(calibrated(Tiled(scorer(unet()))), tmp_path / "masker.onnx")
    assert not list(tmp_path.iterdir())


def test_a_family_of_your_own(plain_masker, tmp_path):
    class Mine(Family):
        name = "mine"
        level, apply = plain_masker.family.level, plain_masker.family.apply

    refused(replace(plain_masker, family=Mine()), tmp_path, MismatchError, "your own family 'mine'")


def test_a_folder_that_cannot_be_written_to(plain_masker, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match="cannot write"):
        export(plain_masker, tmp_path / "file" / "masker.onnx")


def with_maps(count, seed, side=SIDE):
    """Errors are up to the spread at each pixel; the maps are confidences far from [0, 1]."""
    generator = np.random.default_rng(seed)
    y, spread = generator.random((2, count, side, side), dtype=np.float32)
    y_hat = (y + spread * generator.uniform(-0.5, 0.5, y.shape).astype(np.float32)).clip(0, 1)
    return cm.Triplets.from_arrays(1 - y, y_hat, y, cues=100 - 30 * spread)


def calibrated_on_maps(loss):
    threshold = 0.05 if loss == "l1" else 0.2
    return cm.calibrate(cm.Given("trusted"), with_maps(40, 0), threshold=threshold, loss=loss)


@pytest.mark.thorough
@pytest.mark.parametrize("loss", ["l1", cm.Local("l1", 3)], ids=["each pixel", "around each pixel"])
def test_the_masks_are_those_of_the_masker(loss, tmp_path):
    masker = calibrated_on_maps(loss)
    done = cm.export(masker, tmp_path / "masker.onnx")
    assert done.agreement.sizes == ((SIDE, SIDE), (SIDE, 2 * SIDE))
    session = onnxruntime.InferenceSession(done.path)
    assert {node.name: node.shape for node in session.get_inputs()} == {
        "x": ["n", 1, "hx", "wx"], "y_hat": ["n", 1, "h", "w"], "lam": ["n"], "cues": ["n", 1, "h", "w"]
    }  # fmt: skip
    assert session.get_outputs()[0].shape == ["n", 1, "h", "w"]
    assert session.get_modelmeta().custom_metadata_map["cues"] == "given"
    batch = next(with_maps(3, 1, side=24).batches(3))
    images = {"x": batch.x, "y_hat": batch.y_hat, "cues": batch.layers["cues"]}
    images = {name: image.numpy() for name, image in images.items()}
    lam = np.full(3, done.lam)
    mask, score = session.run(None, {**images, "lam": lam})
    expected = masker.masks(batch.x, batch.y_hat, cues=batch.layers["cues"]).numpy()
    assert 0.05 < expected.mean() < 0.95, "it says something"
    np.testing.assert_allclose(
        score, masker.scorer(batch.x, batch.y_hat, batch.layers["cues"]).map, atol=1e-4
    )
    assert (mask != expected).mean() < 0.01, "but for scores that are rounded to the other side of lambda"

    images["cues"][0, 0, 3, 3] = math.nan
    images["cues"][1, 0, 3, 3] = math.inf
    shown = session.run(None, {**images, "lam": np.full(3, math.inf)})[0]
    assert shown.min((1, 2, 3)).tolist() == shown.max((1, 2, 3)).tolist() == [0, 0, 1]


@pytest.mark.thorough
def test_the_masks_of_a_network_that_takes_maps_are_those_of_the_masker(tmp_path):
    epoch = cm.TrainingConfig(epochs=1)
    scorer = cm.fit_scorer(
        with_maps(40, 2),
        out=tmp_path / "run",
        scorer="mask",
        training=epoch,
        network=cm.NetworkOptions(width=4),
    )
    masker = cm.calibrate(scorer, with_maps(40, 0), threshold=0.05)
    done = cm.export(masker, tmp_path / "masker.onnx")
    batch = next(with_maps(3, 1, side=24).batches(3))
    images = {"x": batch.x, "y_hat": batch.y_hat, "cues": batch.layers["cues"]}
    images = {name: image.numpy() for name, image in images.items()}
    session = onnxruntime.InferenceSession(done.path)
    mask, score = session.run(None, {**images, "lam": np.full(3, done.lam)})
    expected = masker.masks(batch.x, batch.y_hat, cues=batch.layers["cues"]).numpy()
    np.testing.assert_allclose(
        score, masker.scorer(batch.x, batch.y_hat, batch.layers["cues"]).map, atol=1e-4
    )
    assert (mask != expected).mean() < 0.01


def test_a_file_that_would_take_no_maps_is_refused(tmp_path):
    masker = calibrated_on_maps("l1")
    with pytest.raises(InvalidArgumentError, match=r"from maps beside y_hat, .* without a predictor"):
        cm.export(masker, tmp_path / "whole.onnx", predictor="network.onnx")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def masker():
    """x has one channel, y_hat three; nobody said whose outputs they are."""
    known = triplets(40, 0, (SIDE, SIDE), 3)
    return calibrate(Heuristic(scale_of, channels=3), known, threshold=0.03, loss="l1")


@pytest.fixture(scope="module")
def whole(masker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    predictor = blurring(folder / "predictor.onnx")
    with pytest.warns(UserWarning, match=r"does not record which network .* made by predictor\.onnx"):
        return predictor, export(masker, folder / "whole.onnx", predictor=predictor)


def run(path, x):
    return onnxruntime.InferenceSession(path).run(None, {"x": x})


@pytest.mark.parametrize(("count", "size"), [(1, (16, 16)), (5, (9, 30))])
def test_one_tensor_gives_output_mask_and_score(masker, whole, count, size):
    predictor, done = whole
    x = torch.rand(count, 1, *size, generator=torch.Generator().manual_seed(3))
    raw, own = run(predictor, x.numpy())[0], custom_predictor(str(predictor))(x)
    assert raw.max() > 1
    y_hat, mask, score = run(done.path, x.numpy())
    np.testing.assert_allclose(y_hat, own.numpy(), atol=1e-6)
    assert (y_hat.min(), y_hat.max()) >= (0, 1)
    assert y_hat.max() == 1
    of_output = scale_of(x, own)
    level = masker.family.level(of_output, torch.full((count,), masker.rule.lam, dtype=torch.float64))
    wanted = masker.family.apply(of_output, level)
    assert 0 < float(wanted.mean()) < 1
    np.testing.assert_allclose(score, scale_of(x, own).numpy(), atol=1e-6)
    np.testing.assert_allclose(mask, wanted.numpy(), atol=1e-5)


def test_a_file_with_a_predictor_says_what_it_is(masker, whole):
    predictor, done = whole
    session = onnxruntime.InferenceSession(done.path)
    tensors = (*session.get_inputs(), *session.get_outputs())
    assert {tensor.name: tensor.shape for tensor in tensors} == {
        "x": ["n", 1, "hx", "wx"],
        "y_hat": ["n", 3, "h", "w"],
        "mask": ["n", 1, "hx", "wx"],  # this score is x itself
        "score": ["n", 1, "hx", "wx"],
    }
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["promise"] == masker.sentence
    assert facts["predictor"] == f"predictor.onnx ({custom_predictor(str(predictor)).fingerprint[:8]})"
    assert float(facts["lambda"]) == done.lam == masker.rule.lam
    assert done.agreement.sizes == ((SIDE, SIDE), (SIDE, 2 * SIDE))
    model = onnx.load(done.path)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", OPSET)]
    assert sorted(path.name for path in done.path.parent.iterdir()) == ["predictor.onnx", "whole.onnx"]


def test_what_pytorch_refuses_is_masked_behind_a_predictor(masker, whole):
    ramp = np.linspace(0.01, 0.5, SIDE**2, dtype=np.float32).reshape(SIDE, SIDE)
    x = np.tile(ramp, (2, 1, 1, 1))
    x[1, 0, 3, 3] = np.nan
    y_hat, mask, _ = run(whole[1].path, x)
    assert np.isnan(y_hat[1]).any()
    assert not np.isnan(y_hat[0]).any()
    assert mask[0].max() > 0
    assert mask[1].max() == 0
    output = torch.full((4, 3, SIDE, SIDE), 0.5)
    output[1, 0, 0, 0], output[2, 0, 0, 0], output[3, 0, 0, 0] = 200.0, torch.inf, -0.2
    y_hat, mask, _ = AfterPredictor(masker)(torch.from_numpy(ramp).expand(4, 1, -1, -1), output)
    assert y_hat[:, 0, 0, 0].tolist() == pytest.approx([0.5, torch.nan, torch.nan, 0.0], nan_ok=True)
    assert (mask.amax((1, 2, 3)) > 0).tolist() == [True, False, False, True]


def test_another_predictor_is_noticed(masker, whole, tmp_path):
    other = predictor_graph(masker, blurring(tmp_path / "p.onnx", gain=1.9))
    with pytest.raises(MismatchError, match=r"0\.\d+ in y_hat; 0\.0001 is allowed"):
        check_file(masker, whole[1].path, other)


def identity(path, **more):
    return saved(path, [onnx.helper.make_node("Identity", ["x"], ["mask"])], **more)


def two_inputs(path):
    return saved(path, [onnx.helper.make_node("Add", ["x", "z"], ["mask"])], inputs=("x", "z"))


REFUSED = {
    "channels": (lambda p: identity(p, given=("n", 3, "h", "w")), r"takes 3 channels, .* has 1"),
    "axes": (lambda p: identity(p, given=("n", 1, "d", "h", "w")), r"takes 5 axes, .* has 4, \(N, C"),
    "sides": (lambda p: blurring(p, given=(1, 1, 64, "w")), r"64 x any pixels, .* 16 x 16: export"),
    "bytes": (
        lambda p: identity(p, kind=onnx.TensorProto.UINT8),
        "takes uint8; in one file, it must take float",
    ),
    "halves": (lambda p: identity(p, kind=onnx.TensorProto.FLOAT16), "takes float16; in one file, it must"),
    "inputs": (two_inputs, "takes 2 inputs; it must take one"),
    "outputs": (lambda p: enlarging(p, 2, 1), r"makes y_hat of shape \(1, 32, 32\) .* has \(3, 16, 16\)"),
    "silent": (lambda p: blurring(p, given=None, channels=2), r"makes y_hat of shape \(2, 16, 16\)"),
    "damaged": (lambda p: p.write_bytes(b"no network") and p, "damaged, or is not an ONNX file"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_predictors_that_do_not_fit(masker, tmp_path, case):
    make, words = REFUSED[case]
    with pytest.raises(MismatchError, match=words) as stop:
        predictor_graph(masker, make(tmp_path / "p.onnx"))
    assert "p.onnx" in str(stop.value)
    assert "\n" not in str(stop.value)


def test_other_refusals(masker, tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"p\.pt2.* give a predictor in ONNX"):
        predictor_graph(masker, tmp_path / "p.pt2")
    with pytest.raises(MissingFileError, match="does not exist"):
        predictor_graph(masker, tmp_path / "p.onnx")
    with pytest.raises(ImageError, match="divide by their range"):
        predictor_graph(masker, blurring(tmp_path / "p.onnx", gain=255.0))
    with pytest.raises(MismatchError, match=r"conformask 0\.1 did not record"):
        predictor_graph(replace(masker, probe=None), blurring(tmp_path / "p.onnx"))
    kinds = triplets(40, 0, categories=["a", "b"] * 20)
    score = Heuristic(scale_of, channels=1)
    varying = calibrate(score, kinds, threshold=0.03, loss="l1", promise="categories")
    with pytest.raises(InvalidArgumentError, match="lambda from each image's category"):
        export(varying, tmp_path / "whole.onnx", predictor=tmp_path / "p.onnx")


def test_the_network_is_that_of_the_calibration(masker, tmp_path, recwarn):
    path = blurring(tmp_path / "p.onnx")
    fingerprint = custom_predictor(str(path)).fingerprint

    def caveat(made_by, network=None, *, any_network=False):
        about = replace(masker, card=replace(masker.card, network=made_by))
        return load_predictor(about, path, network, any_network=any_network)[1]

    assert caveat(Network("any name", fingerprint)) is None
    assert caveat(Network("unet-2026"), "unet-2026") is None
    assert not recwarn
    for other in (Network("p.onnx", "another"), Network("unet-2026")):
        with pytest.raises(MismatchError, match=r"is about outputs of .*--allow-network-mismatch"):
            caveat(other)
        with pytest.warns(UserWarning, match="these were made by"):
            found = caveat(other, any_network=True)
        assert found.other
        assert metadata(masker, found)["promise"].startswith("NOT PROMISED: ")
