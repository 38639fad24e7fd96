"""A package of somebody else adds a format and a loss by entry points alone, on the command line."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformask.cli import main
from conformask.extensions import FORMATS, LOSSES
from installed import install_example, write_example

TERMS = ("--scorer", "residual", "--loss", "edges", "--threshold", "0.02")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("pgm")
    write_example(folder / "known", 40, seed=0)
    write_example(folder / "new", 5, seed=1)
    return folder


@pytest.fixture
def run(tmp_path):
    """The place of a run, in the folder of the installed package."""
    install_example(tmp_path / "packages")
    return tmp_path / "packages" / "run"


@pytest.mark.thorough
def test_its_format_and_its_loss_are_used_by_name(images, run, tmp_path):
    masks = tmp_path / "masks"
    commands = (
        ["check", images / "known"],
        ["calibrate", images / "known", *TERMS, "--out", run],
        ["mask", run, images / "new", masks],
    )
    script = "\n".join(f"main({list(map(str, tokens))})" for tokens in commands)
    done = subprocess.run(
        [sys.executable, "-c", f"from conformask.cli import main\n{script}"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(run.parent), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "No problems found" in done.stdout
    assert json.loads((run / "calibration.json").read_text())["loss"]["loss"] == "edges"
    assert len(list((masks / "masks").glob("*.png"))) == 5
    with (masks / "sizes.csv").open(newline="") as file:
        assert all(0 < float(row["mask_size"]) < 1 for row in csv.DictReader(file))


def answer(capfd, *tokens):
    """What the command line says when it refuses."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, tokens)))
    assert stop.value.code == 1
    return " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize(
    ("without", "words"),
    [
        (FORMATS, "contains no images directly: files that end with .png"),
        (LOSSES, "distance 'edges' is unknown; choose from ['l1', "),
    ],
)
def test_without_its_entry_points_there_is_nothing(images, tmp_path, found_in, capfd, without, words):
    install_example(tmp_path / "packages", without)
    found_in(tmp_path / "packages")
    assert words in answer(capfd, "calibrate", images / "known", *TERMS, "--out", tmp_path / "run")


def test_a_run_needs_the_same_loss_again(images, run, tmp_path, found_in, capfd):
    found_in(run.parent)
    calibrated = tmp_path / "run"
    main(list(map(str, ["calibrate", images / "known", *TERMS, "--out", calibrated])))
    tokens = ("mask", calibrated, images / "new", tmp_path / "masks")
    install_example(tmp_path / "less", without=LOSSES)
    found_in(tmp_path / "less", instead_of=run.parent)
    assert "'edges': pass it again with loss=, or install the package that adds it" in answer(capfd, *tokens)
    install_example(tmp_path / "other")
    module = tmp_path / "other" / "conformask_pgm.py"
    module.write_text(module.read_text().replace("/ 2", "/ 3"))
    found_in(tmp_path / "other", instead_of=tmp_path / "less")
    assert "the code or the weights of loss= have changed" in answer(capfd, *tokens)
