"""Exported files whose score is read from maps beside y_hat: one more input."""

import math
from pathlib import Path

import numpy as np
import pytest

import conformask as cm
from conformask.errors import InvalidArgumentError
from conformask.losses.base import Loss

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

pytestmark = pytest.mark.xdist_group("export")
SIDE = 16


def triplets(count: int, seed: int, side: int = SIDE) -> cm.Triplets:
    """Errors are up to the spread at each pixel; the maps are confidences far from [0, 1]."""
    generator = np.random.default_rng(seed)
    y, spread = generator.random((2, count, side, side), dtype=np.float32)
    y_hat = (y + spread * generator.uniform(-0.5, 0.5, y.shape).astype(np.float32)).clip(0, 1)
    return cm.Triplets.from_arrays(1 - y, y_hat, y, cues=100 - 30 * spread)


def calibrated(loss: Loss | str) -> cm.Masker:
    threshold = 0.05 if loss == "l1" else 0.2
    return cm.calibrate(cm.Given("trusted"), triplets(40, 0), threshold=threshold, loss=loss)


@pytest.mark.thorough
@pytest.mark.parametrize("loss", ["l1", cm.Local("l1", 3)], ids=["each pixel", "around each pixel"])
def test_the_masks_are_those_of_the_masker(loss: Loss | str, tmp_path: Path) -> None:
    masker = calibrated(loss)
    done = cm.export(masker, tmp_path / "masker.onnx")
    assert done.agreement.sizes == ((SIDE, SIDE), (SIDE, 2 * SIDE))
    session = onnxruntime.InferenceSession(done.path)
    assert {node.name: node.shape for node in session.get_inputs()} == {
        "x": ["n", 1, "hx", "wx"], "y_hat": ["n", 1, "h", "w"], "lam": ["n"], "cues": ["n", 1, "h", "w"]
    }  # fmt: skip
    assert session.get_outputs()[0].shape == ["n", 1, "h", "w"]
    assert session.get_modelmeta().custom_metadata_map["cues"] == "given"
    batch = next(triplets(3, 1, side=24).batches(3))
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
def test_the_masks_of_a_network_that_takes_maps_are_those_of_the_masker(tmp_path: Path) -> None:
    epoch = cm.TrainingConfig(epochs=1)
    scorer = cm.fit_scorer(
        triplets(40, 2),
        out=tmp_path / "run",
        scorer="mask",
        training=epoch,
        network=cm.NetworkOptions(width=4),
    )
    masker = cm.calibrate(scorer, triplets(40, 0), threshold=0.05)
    done = cm.export(masker, tmp_path / "masker.onnx")
    batch = next(triplets(3, 1, side=24).batches(3))
    images = {"x": batch.x, "y_hat": batch.y_hat, "cues": batch.layers["cues"]}
    images = {name: image.numpy() for name, image in images.items()}
    session = onnxruntime.InferenceSession(done.path)
    mask, score = session.run(None, {**images, "lam": np.full(3, done.lam)})
    expected = masker.masks(batch.x, batch.y_hat, cues=batch.layers["cues"]).numpy()
    np.testing.assert_allclose(
        score, masker.scorer(batch.x, batch.y_hat, batch.layers["cues"]).map, atol=1e-4
    )
    assert (mask != expected).mean() < 0.01


def test_a_file_that_would_take_no_maps_is_refused(tmp_path: Path) -> None:
    masker = calibrated("l1")
    with pytest.raises(InvalidArgumentError, match=r"from maps beside y_hat, .* without a predictor"):
        cm.export(masker, tmp_path / "whole.onnx", predictor="network.onnx")
    assert not list(tmp_path.iterdir())
