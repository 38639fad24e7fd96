"""Calibration by two processes on the CPU: Lightning starts the same command again for the second."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conformask.cli import main
from conformask.images.read import write_image
from conformask.masker.run_folder import read_stored

COMMAND = Path(sys.executable).with_name("conformask")
COUNT = 150


def written(folder: Path, count: int, seed: int) -> Path:
    generator = np.random.default_rng(seed)
    for index in range(count):
        y, noise = generator.random((2, 1, 16, 16)).astype(np.float32)
        y_hat = (y + 0.3 * generator.random() * (noise - 0.5)).clip(0, 1)
        for role, image in (("x", y), ("y_hat", y_hat), ("y", y)):
            write_image(folder / role / f"{index}.png", image)
    return folder


def run(*words: object) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [str(word) for word in (COMMAND, *words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    data = written(folder / "train", 12, 0)
    main([str(word) for word in ("train", data, folder / "one", "--epochs", "1", "--width", "4", "--json")])
    written(folder / "calibration", COUNT, 1)
    return folder


@pytest.mark.slow
def test_lambda_agrees_with_one_process(trained: Path) -> None:
    two = shutil.copytree(trained / "one", trained / "two")
    verb = (trained / "calibration", "--threshold", "0.02", "--confidence", "0.9", "--json")
    told = [
        json.loads(run("calibrate", trained / "one", *verb)),
        json.loads(run("calibrate", two, *verb, "--devices", "2")),
    ]
    assert told[0]["n_calibration"] == told[1]["n_calibration"] == COUNT
    assert 0 < told[0]["lam"] < np.inf
    assert told[1]["lam"] == pytest.approx(told[0]["lam"], rel=1e-6)
    one, both = (read_stored(trained / name) for name in ("one", "two"))
    assert one.curves.names.tolist() == both.curves.names.tolist()
    for of in (lambda s: s.critical_lambdas, lambda s: s.curves.loss, lambda s: s.curves.size):
        np.testing.assert_allclose(of(both), of(one), rtol=1e-5, atol=1e-7)
    assert both.card.promise == one.card.promise
    assert not (two / "calibrating").exists()


@pytest.mark.slow
def test_an_evaluation_is_that_of_one_process(trained: Path, capsys) -> None:
    new = written(trained / "new", 70, 2)
    main([*map(str, ("calibrate", trained / "one", trained / "calibration", "--threshold", "0.02"))])
    capsys.readouterr()
    main(["evaluate", str(trained / "one"), str(new), "--json"])
    alone = json.loads(capsys.readouterr().out)
    shared = json.loads(run("evaluate", trained / "one", new, "--json", "--devices", "2"))
    assert "--devices 2" in shared["made"].pop("command")
    del alone["made"]["command"]
    assert shared == alone
    assert not (trained / "one" / "evaluating").exists()
