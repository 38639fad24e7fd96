"""Run folders that earlier versions wrote, kept as they were, give the same masks and numbers."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

import conformask as cm
from conformask.records.evaluation import Evaluation

KEPT = Path(__file__).parent / "kept"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained, calibrated and evaluated by conformask 0.1; expected.npz holds what it computed."""
    folder = tmp_path_factory.mktemp("kept")
    with tarfile.open(KEPT / "run_of_0_1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "run_of_0_1"


def test_a_run_of_0_1_gives_the_same_masks(run: Path) -> None:
    masker, expected = cm.load(run), np.load(run / "expected.npz")
    assert masker.rule.lam == expected["lam"]
    mask = masker(expected["x"], expected["y_hat"])
    assert 0 < mask.mean() < 1
    np.testing.assert_allclose(mask, expected["mask"], atol=1e-6)
    assert masker.recalibrate(threshold=0.009).rule.lam == expected["again"]


def test_its_evaluation_and_its_promise_are_read(run: Path) -> None:
    evaluation, masker = Evaluation.load(run), cm.load(run)
    assert evaluation.promise == masker.promise
    assert evaluation.n_test == len(evaluation.images.name) == 20
    assert masker.promise.startswith("P(l1 <= 0.006) >= 0.90 for new images like the 40 calibration images")


def test_it_is_saved_in_the_form_of_today(run: Path, tmp_path: Path) -> None:
    before = cm.load(run)
    before.save(tmp_path)
    again, expected = cm.load(tmp_path), np.load(run / "expected.npz")
    assert again.promise == before.promise
    np.testing.assert_allclose(again(expected["x"], expected["y_hat"]), expected["mask"], atol=1e-6)
