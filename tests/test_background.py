"""Progress is told in logs; scores do not depend on how torch shortens float32; memory is kept for them."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from conformask import background as progress
from conformask.arrays import SHORTENED, best_device, full_precision
from conformask.background import BYTES, DEPTH, THREADS, prefetch, tracked
from conformask.extras.train import NetworkOptions, TrainingConfig
from conformask.extras.train.fit import fit_scorer
from conformask.extras.train.training import fitting
from conformask.losses.distances import CustomDistance
from conformask.losses.perceptual import Ssim
from conformask.scores.scorer import Heuristic, score_of
from screens import drawn
from synthetic_triplets import triplets


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)


def test_a_line_now_and_then(capfd):
    assert list(tracked("abc", "reading", 5, 2)) == ["a", "b", "c"]
    assert capfd.readouterr().err.splitlines() == ["reading 2/5", "reading 4/5", "reading 5/5"]


def test_items_that_are_several_things(capfd):
    assert list(tracked(["ab", "c"], "reading", 3, len)) == ["ab", "c"]
    assert capfd.readouterr().err.splitlines() == ["reading 2/3", "reading 3/3"]


def test_nothing_before_a_line_is_due(capfd, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 30.0)
    assert list(tracked("abc", "reading", 3)) == ["a", "b", "c"]
    assert capfd.readouterr().err == ""


def test_other_processes_are_silent(capfd, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert list(tracked("abc", "reading", 3)) == ["a", "b", "c"]
    assert capfd.readouterr().err == ""


@pytest.mark.filterwarnings("ignore")
def test_a_training_tells_what_it_does_to_its_end(tmp_path, capfd):
    """What follows the last epoch takes its time on many selection images, too."""
    fit_scorer(
        triplets(32, 0),
        selection=triplets(12, 1),
        out=tmp_path,
        training=TrainingConfig(epochs=1),
        network=NetworkOptions(width=2),
    )
    lines = capfd.readouterr().err.splitlines()
    for told in ("scorer 50%  epoch 1", "grids 12/12", "comparing spread 12/12"):
        assert any(line.startswith(told) for line in lines), told


BARS = """
import time
from conformask.background import tracked
for title in ("masks", "losses without a mask of {these} [images]", "score of " + "a_long_name_" * 12):
    for _ in tracked(range(1200), title, 1200):
        time.sleep(0.0003)
"""


@pytest.mark.quick(1)
@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_bar_is_as_wide_as_the_terminal(width):
    lines = drawn(BARS, width)
    assert {len(line) for line in lines} <= {width, width - 1}
    assert all(re.search(r"(-:--:--|0:00:\d\d)$", line) for line in lines)
    for start in ("masks ━", "losses without a mask of {th", "score of a_long_name_"):
        assert any(line.startswith(start) for line in lines), start


@pytest.mark.parametrize(
    ("room", "line"),
    [
        (62, "epoch 12  selection 0.00123  hides 34 %, best 12 %  12:30 left"),
        (61, "epoch 12  selection 0.00123  12:30 left"),
        (38, "epoch 12  12:30 left"),
        (10, "12:30 left"),
        (9, ""),
    ],
)
def test_a_narrow_terminal_shows_what_matters_most_of_a_training(room, line):
    facts = {
        "epoch": "epoch 12",
        "selection": "selection 0.00123",
        "status": "hides 34 %, best 12 %",
        "remaining": "12:30 left",
    }
    assert fitting(facts, room) == line


@pytest.mark.thorough
def test_the_bar_of_a_training_is_as_wide_as_the_terminal():
    lines = drawn(TRAINING, 60)
    bars = [line for line in lines if line.startswith("scorer ")]
    assert {len(line) for line in bars} <= {60}
    assert any("epoch 1 " in line for line in bars)


TRAINING = f"""
import sys, tempfile, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {str(Path(__file__).parent)!r})
from synthetic_triplets import triplets
from conformask.extras.train import NetworkOptions, TrainingConfig
from conformask.extras.train.fit import fit_scorer
fit_scorer(triplets(32, 0), selection=triplets(12, 1), out=tempfile.mkdtemp(),
           training=TrainingConfig(epochs=1), network=NetworkOptions(width=2))
"""


def test_results_come_in_order_whoever_is_done_first():
    def slow(number):
        time.sleep(0.002 * (number % 3))
        return number * number

    assert list(prefetch(slow, range(50))) == [number * number for number in range(50)]
    assert list(prefetch(slow, [])) == []


def test_threads_work_while_the_caller_does():
    begun = []
    results = prefetch(lambda number: begun.append(number) or number, range(100), lambda _: 1)
    next(results), next(results)
    time.sleep(0.1)
    assert len(begun) == DEPTH + 1, "the caller holds one, the others wait"
    results.close()


def test_no_more_is_kept_than_the_memory_allows():
    begun = []
    results = prefetch(lambda number: begun.append(number), range(100), lambda _: BYTES // 3)
    for taken in range(1, 20):
        next(results)
        time.sleep(0.005)
        assert len(begun) <= taken + 3
    results.close()


def test_one_thread_is_one_thread():
    here = threading.get_ident()
    threads = set(prefetch(lambda _: threading.get_ident(), range(30), threads=1))
    assert len(threads) == 1
    assert here not in threads
    assert 1 < len(set(prefetch(lambda _: time.sleep(0.01) or threading.get_ident(), range(30)))) <= THREADS


def test_an_error_comes_in_its_place_and_ends_the_work():
    begun, before = [], set(threading.enumerate())

    def work(number):
        begun.append(number)
        if number == 5:
            raise ValueError("number 5")
        return number

    results = prefetch(work, range(1000))
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="number 5"):
        next(results)
    assert len(begun) < 20
    assert set(threading.enumerate()) <= before, "its threads are gone"


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
