"""benchmarks/on_gpu.sh runs through on a machine without a GPU, and notices masks that differ."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PARTS = {
    "training_images",
    "scoring_megapixels",
    "calibration_images",
    "masks_from_disk_to_disk",
    "onnx_images",
}


@pytest.mark.slow
def test_it_measures_both_devices_and_compares_their_masks(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(("part", "change"), [("score", 1.01), ("mask", 0.99)])
def test_other_masks_are_noticed(
    part: str, change: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
