"""What people hand to a public function by mistake is refused in words that say what to give."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

import conformask as cm
from conformask.errors import InvalidArgumentError, MismatchError
from synthetic_triplets import scale_of, triplets
from untyped import UNTYPED

pytestmark = UNTYPED
SCORER = cm.Heuristic(scale_of, channels=1)


@pytest.fixture(scope="module")
def masker():
    return cm.calibrate(SCORER, triplets(40, 0), threshold=0.03, loss="l1")


@pytest.mark.parametrize("scorer", [torch.nn.Conv2d(1, 1, 1), scale_of, "packaged", "runs/first"])
def test_what_is_no_scorer(scorer):
    with pytest.raises(InvalidArgumentError, match=r"^scorer is a (Conv2d|function|str); give .*\("):
        cm.calibrate(scorer, triplets(40, 0), threshold=0.03)


CALLS: dict[str, Callable[..., object]] = {
    "evaluate": lambda masker: cm.evaluate(masker, triplets(5, 1)),
    "write_masks": lambda masker: cm.write_masks(masker, triplets(5, 1), "out"),
    "monitor": lambda masker: cm.monitor(masker, triplets(5, 1)),
    "release": lambda masker: cm.release(masker, triplets(5, 1)),
    "Watch": lambda masker: cm.StreamMonitor(masker),
    "OnlineMasker": lambda masker: cm.OnlineMasker(masker),
    "export": lambda masker: cm.export(masker, "masker.onnx"),
    "show": lambda masker: cm.show(masker, np.zeros((8, 8)), np.zeros((8, 8))),
    "masked": lambda masker: cm.masked(masker, np.zeros((8, 8)), np.zeros((8, 8))),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_masker(name):
    with pytest.raises(InvalidArgumentError, match=r"^masker is a str; give what calibrate\(\) or load\(\)"):
        CALLS[name]("runs/first")


def test_what_are_no_triplets(masker, tmp_path):
    for call in (
        lambda: cm.evaluate(masker, tmp_path),
        lambda: cm.write_masks(masker, tmp_path, tmp_path / "out"),
        lambda: cm.monitor(masker, tmp_path),
        lambda: cm.release(masker, tmp_path),
        lambda: cm.StreamMonitor(masker).add(tmp_path),
        lambda: cm.calibrate(SCORER, tmp_path, threshold=0.03),
        lambda: cm.fit_scorer(tmp_path, out=tmp_path / "run"),
    ):
        with pytest.raises(InvalidArgumentError, match=r"Path: give .*\.from_folder\(PATH\)"):
            call()
    assert not list(tmp_path.iterdir())


def test_a_report_of_a_masker_and_a_module_to_export(masker, tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"^evaluation is a Masker; give what evaluate\(\)"):
        cm.write_report(masker, tmp_path / "report.html")
    with pytest.raises(InvalidArgumentError, match=r"^predictor is a Conv2d; give the path of an ONNX file"):
        cm.export(masker, tmp_path / "masker.onnx", predictor=torch.nn.Conv2d(1, 1, 1))


def test_volumes_where_planes_were_calibrated(masker, tmp_path):
    stack = np.full((3, 4, 8, 8), 0.5, np.float32)
    volumes = cm.Triplets.from_arrays(stack, stack, stack, reading=cm.Reading(axes="ZYX"))
    image = torch.full((1, 1, 4, 8, 8), 0.5)
    for call in (
        lambda: cm.evaluate(masker, volumes),
        lambda: cm.write_masks(masker, volumes, tmp_path / "out"),
        lambda: masker(image, image),
    ):
        with pytest.raises(MismatchError, match=r"about planes, but these are volumes"):
            call()


def test_a_packaged_score_by_tiles_is_one_of_images_first():
    with pytest.raises(InvalidArgumentError, match=r"Tiled\(packaged_scorer\(\)\.of\(TRIPLETS\)\)"):
        cm.Tiled(cm.packaged_scorer())
    known = triplets(40, 0, (40, 40))
    masker = cm.calibrate(cm.Tiled(cm.packaged_scorer().of(known), 128, 32), known, threshold=0.05)
    assert masker.card.tiles == (128, 32)


@pytest.mark.parametrize("name", ["a\rb", "a\nb", "a\tb", "a\x1b[31mb"])
def test_control_characters_in_names(name):
    with pytest.raises(InvalidArgumentError, match="control characters"):
        cm.Triplets.from_arrays(np.zeros((1, 8, 8)), np.zeros((1, 8, 8)), names=[name])
