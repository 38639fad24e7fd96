"""A predictor and a masker in one ONNX file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conformask.errors import ImageError, InvalidArgumentError, MismatchError, MissingFileError
from conformask.extras.export.onnx import Export, check_file, export, load_predictor, metadata
from conformask.extras.export.onnx_graph import OPSET, AfterPredictor, predictor_graph
from conformask.extras.make.predictors import custom_predictor
from conformask.masker.calibrate import calibrate
from conformask.masker.masker import Masker
from conformask.records.reading import Network
from conformask.scores.scorer import Heuristic
from onnx_predictors import blurring, enlarging, saved
from synthetic_triplets import scale_of, triplets

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytestmark = pytest.mark.xdist_group("export")
SIDE = 16


@pytest.fixture(scope="module")
def masker() -> Masker:
    """x has one channel, y_hat three; nobody said whose outputs they are."""
    known = triplets(40, 0, (SIDE, SIDE), 3)
    return calibrate(Heuristic(scale_of, channels=3), known, threshold=0.03, loss="l1")


@pytest.fixture(scope="module")
def whole(masker: Masker, tmp_path_factory) -> tuple[Path, Export]:
    folder = tmp_path_factory.mktemp("whole")
    predictor = blurring(folder / "predictor.onnx")
    with pytest.warns(UserWarning, match=r"does not record which network .* made by predictor\.onnx"):
        return predictor, export(masker, folder / "whole.onnx", predictor=predictor)


def run(path: Path, x: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(path).run(None, {"x": x})


@pytest.mark.parametrize(("count", "size"), [(1, (16, 16)), (5, (9, 30))])
def test_one_tensor_gives_output_mask_and_score(masker: Masker, whole, count: int, size) -> None:
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


def test_the_file_says_what_it_is(masker: Masker, whole) -> None:
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


def test_what_pytorch_refuses_is_masked(masker: Masker, whole) -> None:
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


def test_another_predictor_is_noticed(masker: Masker, whole, tmp_path: Path) -> None:
    other = predictor_graph(masker, blurring(tmp_path / "p.onnx", gain=1.9))
    with pytest.raises(MismatchError, match=r"0\.\d+ in y_hat; 0\.0001 is allowed"):
        check_file(masker, whole[1].path, other)


def identity(path: Path, **more) -> Path:
    return saved(path, [onnx.helper.make_node("Identity", ["x"], ["mask"])], **more)


def two_inputs(path: Path) -> Path:
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
def test_predictors_that_do_not_fit(masker: Masker, tmp_path: Path, case: str) -> None:
    make, words = REFUSED[case]
    with pytest.raises(MismatchError, match=words) as stop:
        predictor_graph(masker, make(tmp_path / "p.onnx"))
    assert "p.onnx" in str(stop.value)
    assert "\n" not in str(stop.value)


def test_other_refusals(masker: Masker, tmp_path: Path) -> None:
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


def test_the_network_is_that_of_the_calibration(masker: Masker, tmp_path: Path, recwarn) -> None:
    path = blurring(tmp_path / "p.onnx")
    fingerprint = custom_predictor(str(path)).fingerprint

    def caveat(made_by: Network, network: str | None = None, *, allow_network_mismatch: bool = False):
        about = replace(masker, card=replace(masker.card, network=made_by))
        return load_predictor(about, path, network, allow_network_mismatch=allow_network_mismatch)[1]

    assert caveat(Network("any name", fingerprint)) is None
    assert caveat(Network("unet-2026"), "unet-2026") is None
    assert not recwarn
    for other in (Network("p.onnx", "another"), Network("unet-2026")):
        with pytest.raises(MismatchError, match=r"is about outputs of .*--allow-network-mismatch"):
            caveat(other)
        with pytest.warns(UserWarning, match="these were made by"):
            found = caveat(other, allow_network_mismatch=True)
        assert found.other
        assert metadata(masker, found)["promise"].startswith("NOT PROMISED: ")
