"""The demonstration: a first look at packaged crops of photographs that a network enlarged."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import conformask as cm
from conformask.demo import POPULATION, middles, output_file, quarter, write_crops
from conformask.errors import OutputError


def opened(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(float)


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("crops")
    write_crops(folder)
    return folder


def test_outputs_are_what_a_network_made_of_the_inputs() -> None:
    for name, y in middles().items():
        y_hat, x = opened(output_file(name)), quarter(y).astype(float)
        assert y_hat.shape == y.shape
        smaller = y_hat.reshape(len(x), 4, x.shape[1], 4, 3).mean(axis=(1, 3))
        assert np.corrcoef(smaller.ravel(), x.ravel())[0, 1] > 0.9, f"{name}: of another image"
        enlarged = np.asarray(Image.fromarray(quarter(y)).resize(y.shape[1::-1], Image.Resampling.BICUBIC))
        assert abs(y_hat - enlarged).mean() > 0.5, f"{name}: its output is its input, enlarged"


def test_crops_are_triplets_of_photographs(crops: Path) -> None:
    triplets = cm.Triplets.from_folder(crops)
    assert len(triplets) == 40
    assert triplets.provenance.population == POPULATION
    for role, side in (("x", 64), ("y_hat", 256), ("y", 256)):
        assert {opened(path).shape for path in (crops / role).iterdir()} == {(side, side, 3)}
    whole = opened(output_file("astronaut"))
    np.testing.assert_array_equal(opened(crops / "y_hat" / "astronaut-4.png"), whole[256:, 256:])
    small = quarter(middles()["astronaut"])
    np.testing.assert_array_equal(opened(crops / "x" / "astronaut-2.png"), small[:64, 64:])


def test_it_ends_in_a_tested_promise_and_can_be_repeated(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from conformask.cli import main; main()", "demo", "--out", "demo"]
    for _ in range(2):
        done = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
        record = json.loads(done.stdout)
        assert POPULATION in record["sentence"]
        assert record["parts"] == {"calibration": 21, "selection": 5, "test": 14}
    masker = cm.load(tmp_path / "demo" / "run")
    assert masker.sentence == record["sentence"]
    test = cm.Triplets.from_folder(tmp_path / "demo" / "data").part("test")
    losses = [abs(t.truth() - t.y_hat)[:, np.asarray(masker(t)) > 0].sum() / t.y_hat.size for t in test]
    assert np.mean(np.array(losses) <= masker.card.threshold) == pytest.approx(record["coverage"])
    assert (tmp_path / "demo" / "report.html").is_file()


def test_pictures_of_others_stay(tmp_path: Path) -> None:
    mine = tmp_path / "y" / "mine.png"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    with pytest.raises(OutputError, match="mine"):
        write_crops(tmp_path)
    assert list(tmp_path.rglob("*.*")) == [mine]
