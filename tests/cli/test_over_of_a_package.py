"""A class of losses that another package adds to `--over`, through calibrate and recalibrate."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import conformask as cm
from conformask.errors import ConformaskError
from conformask.losses import loss_over
from conformask.losses.masked_distance import code_of
from conformask.records.loss import LOSSES
from installed import install
from synthetic_triplets import arrays

OVER = "conformask.over"
MODULE = '''
from dataclasses import dataclass

from conformask.losses.base import Form, MapLoss, NumberOption
from conformask.losses.of_images import LargestShown
from conformask.records.loss import Traits


@dataclass(frozen=True, init=False)
class Largest(MapLoss):
    """The largest error of the pixels shown, times a factor."""

    factor: float
    over = "largest"
    form = Form("its largest value at a shown pixel", {"factor": NumberOption("the factor", "2")})
    common = Traits(monotone=True)

    def __init__(self, loss, factor: float, *, regional=False):
        super().__init__(loss, regional=regional, factor=factor)

    def of_errors(self, errors, region):
        return LargestShown(self.factor * errors.double())
'''


@pytest.fixture
def package(tmp_path):
    install(tmp_path / "site", "acme", {OVER: {"largest": "acme:Largest"}}, MODULE)
    for role, images in zip(("x", "y_hat", "y"), arrays(40, 0, (16, 16)), strict=True):
        (tmp_path / "old" / role).mkdir(parents=True)
        for index, image in enumerate(images):
            np.save(tmp_path / "old" / role / f"{index:02d}.npy", image)
    return tmp_path / "site"


def ran(folder, lines, path):
    """Run verbs in a process that finds the package in `path`: it reads options when it starts."""
    script = "\n".join(f"main({line.split()})" for line in lines)
    places = [str(path)] * (path is not None) + [os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"from conformask.cli import main\n{script}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(places), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


CALIBRATE = "calibrate old --scorer residual --loss l1 --over largest --factor 2 --threshold 0.3 --out run"


@pytest.mark.thorough
def test_it_is_chosen_by_name(tmp_path, package):
    done = ran(tmp_path, [CALIBRATE, "recalibrate run --threshold 0.4", "mask run old masks"], package)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "calibration.json").read_text())
    assert record["loss"] == {"loss": "l1", "over": "largest", "factor": 2.0, "regional": False}
    assert record["threshold"] == 0.4
    assert len(list((tmp_path / "masks" / "masks").iterdir())) == 40
    helped = ran(tmp_path, ["calibrate --help-all"], package)
    assert "its largest value at a shown pixel (largest)" in " ".join(helped.stdout.replace("│", "").split())

    done = ran(tmp_path, ["mask run old others"], None)
    assert done.returncode == 1
    assert "the unknown loss 'l1' over 'largest': install the package that adds it" in done.stderr
    (package / "acme.py").write_text(MODULE.replace("self.factor *", "0.5 * self.factor *"))
    done = ran(tmp_path, ["mask run old others"], package)
    assert done.returncode == 1
    assert "the code or the weights of loss= have changed" in done.stderr


def test_it_is_known_in_python(package, found_in):
    found_in(package)
    assert list(LOSSES)[-1] == "largest"
    used = loss_over("l1", "largest", {"factor": 3.0})
    assert used.name == used.words.label == "largest(l1)"
    assert used.texts.event == "the loss {name}{where} is at most {threshold}"
    assert code_of(used) is not None
    assert code_of(cm.Mean("l1")) is None


def test_what_is_no_loss_is_refused(tmp_path, found_in):
    install(tmp_path, "acme", {OVER: {"largest": "acme:LARGEST"}}, "LARGEST = 1\n")
    found_in(tmp_path)
    with pytest.raises(ConformaskError, match="over 'largest' is 1, which is not a class of losses"):
        LOSSES["largest"]
    with pytest.warns(cm.ConformaskWarning, match="over 'largest' is 1"):
        assert loss_over("l1", "trusted", {}) == cm.MeanShown("l1")
