"""Scores and distances do not depend on how a program lets torch shorten float32; memory is kept for them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from conformask.arithmetic import SHORTENED, best_device, full_precision
from conformask.losses.distances import CustomDistance
from conformask.losses.perceptual import Ssim
from conformask.scores.scorer import Heuristic
from conformask.scores.scoring import score_of

IMAGES = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
OTHERS = (IMAGES + 0.1).clamp(max=1)
CONVOLUTION = nn.Conv2d(2, 1, 5, padding=2)


def precisions():
    return [operation.fp32_precision for operation in SHORTENED]


@pytest.fixture
def shortened():
    """What Lightning advises for GPUs; it shortens products on some CPUs, too."""
    before = precisions()
    torch.set_float32_matmul_precision("medium")
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    yield
    for operation, precision in zip(SHORTENED, before, strict=True):
        operation.fp32_precision = precision


def seen_inside(*images):
    assert set(precisions()) == {"ieee"}
    assert not torch.is_autocast_enabled("cpu")
    assert not torch.backends.cudnn.allow_tf32, "which an export in another thread asks for"
    return images[0]


@pytest.mark.usefixtures("shortened")
def test_scores_and_distances_are_computed_in_full_precision():
    outside = precisions()
    assert set(outside) != {"ieee"}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        score_of(Heuristic(seen_inside, channels=1), IMAGES, OTHERS)
        CustomDistance(lambda a, b: seen_inside(a, b).mean((1, 2, 3)))(IMAGES, OTHERS)
        with pytest.raises(ZeroDivisionError), full_precision(IMAGES):
            raise ZeroDivisionError
        assert torch.is_autocast_enabled("cpu")
    assert precisions() == outside


def test_they_are_the_same_numbers_whatever_is_around(request):
    def convolved(x, y_hat):
        return CONVOLUTION(torch.cat([x, y_hat], dim=1)).abs()

    scorer = Heuristic(convolved, channels=1)
    score, distance = score_of(scorer, IMAGES, OTHERS).map, Ssim()(IMAGES, OTHERS)
    assert not score.requires_grad
    request.getfixturevalue("shortened")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(score_of(scorer, IMAGES, OTHERS).map, score)
        assert torch.equal(Ssim()(IMAGES, OTHERS), distance)


def test_a_build_for_an_accelerator_that_is_not_there_computes_on_the_processor(monkeypatch):
    """PyPI's torch for Linux is built for CUDA; on a machine without one it must not be chosen."""

    def of_the_build(check_available=False):
        return None if check_available else torch.device("cuda")

    monkeypatch.setattr(torch.accelerator, "current_accelerator", of_the_build)
    assert best_device() == torch.device("cpu")


# benchmarks/on_gpu.sh runs through on a machine without a GPU, and notices masks that differ


ROOT = Path(__file__).parents[1]
PARTS = {
    "training_images",
    "scoring_megapixels",
    "calibration_images",
    "masks_from_disk_to_disk",
    "onnx_images",
}


@pytest.mark.slow
def test_it_measures_both_devices_and_compares_their_masks(tmp_path):
    out = tmp_path / "on_gpu.json"
    environment = os.environ | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    command = ["bash", str(ROOT / "benchmarks" / "on_gpu.sh"), "--small", "--out", str(out)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    results = json.loads(out.read_text())
    assert results["masks_agree"]
    assert results["lambdas_differ_by"] == 0
    assert results["times_faster"].keys() == PARTS
    assert results["gpu"]["onnx_provider"] == "CPUExecutionProvider"
    assert results["paper_row"]["seconds"] > 0


@pytest.mark.quick(1)
@pytest.mark.parametrize(("part", "change"), [("score", 1.01), ("mask", 0.99)])
def test_other_masks_are_noticed(part, change, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import on_gpu

    import conformask as cm

    on_gpu.write_crops(tmp_path, on_gpu.SMALL)
    masker = cm.calibrate(cm.packaged_scorer(), cm.Triplets.from_folder(tmp_path), threshold=0.02, loss="l1")
    batch = on_gpu.first_batch(tmp_path)
    found = on_gpu.outputs(masker, batch)
    assert max(vars(on_gpu.agreement(masker, batch, found)).values()) <= on_gpu.TOLERANCE
    changed: dict[str, torch.Tensor] = {**found, part: change * found[part]}
    assert max(vars(on_gpu.agreement(masker, batch, changed)).values()) > on_gpu.TOLERANCE
