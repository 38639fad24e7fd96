"""The demonstration: a first look at packaged crops of photographs that a network enlarged."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import conformask as cm
from conformask.errors import OutputError
from conformask.extras.make.demonstration import (
    PINNED,
    POPULATION,
    middles,
    output_file,
    quarter,
    write_crops,
)

pytestmark = pytest.mark.xdist_group("demo")


def opened(path):
    return np.asarray(Image.open(path)).astype(float)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("crops")
    write_crops(folder)
    return folder


def test_outputs_are_what_a_network_made_of_the_inputs():
    for name, y in middles().items():
        y_hat, x = opened(output_file(name)), quarter(y).astype(float)
        assert y_hat.shape == y.shape
        smaller = y_hat.reshape(len(x), 4, x.shape[1], 4, 3).mean(axis=(1, 3))
        assert np.corrcoef(smaller.ravel(), x.ravel())[0, 1] > 0.9, f"{name}: of another image"
        enlarged = np.asarray(Image.fromarray(quarter(y)).resize(y.shape[1::-1], Image.Resampling.BICUBIC))
        assert abs(y_hat - enlarged).mean() > 0.5, f"{name}: its output is its input, enlarged"


def test_crops_are_triplets_of_photographs(crops):
    triplets = cm.Triplets.from_folder(crops)
    assert len(triplets) == 40
    assert triplets.provenance.population == POPULATION
    for role, side in (("x", 64), ("y_hat", 256), ("y", 256)):
        assert {opened(path).shape for path in (crops / role).iterdir()} == {(side, side, 3)}
    whole = opened(output_file("astronaut"))
    np.testing.assert_array_equal(opened(crops / "y_hat" / "astronaut-4.png"), whole[256:, 256:])
    small = quarter(middles()["astronaut"])
    np.testing.assert_array_equal(opened(crops / "x" / "astronaut-2.png"), small[:64, 64:])


@pytest.mark.thorough
def test_without_a_terminal_it_ends_and_says_how_to_look(demonstration):
    printed = " ".join((demonstration / "printed.txt").read_text(encoding="utf-8").split())
    assert "conformask view demo/run demo/data" in printed
    assert "Ctrl-C" not in printed


@pytest.mark.thorough
def test_it_ends_in_a_tested_promise_and_can_be_repeated(demonstration, tmp_path, warm):
    demo = Path(shutil.copytree(demonstration / "demo", tmp_path / "demo"))
    sentence = cm.load(demo / "run").sentence
    again = warm.run("from conformask.cli import main; main(['demo', '--out', 'demo', '--json'])", tmp_path)
    record = json.loads(again.stdout)
    assert POPULATION in record["sentence"]
    assert record["sentence"] == sentence
    assert record["parts"] == {"calibration": 20, "selection": 5, "test": 15}
    masker, test = cm.load(demo / "run"), cm.Triplets.from_folder(demo / "data").part("test")
    losses = [abs(t.truth() - t.y_hat)[:, np.asarray(masker(t)) > 0].sum() / t.y_hat.size for t in test]
    assert np.mean(np.array(losses) <= masker.card.threshold) == pytest.approx(record["coverage"])


@pytest.mark.thorough
def test_telling_images_are_tested_and_the_report_says_so(demonstration):
    split = cm.Triplets.from_folder(demonstration / "demo" / "data").split()
    assert set(PINNED) < set(split.test.names)
    report = (demonstration / "demo" / "report.html").read_text(encoding="utf-8")
    assert "astronaut-1 (a face) and chelsea-1 (the eyes of a cat) are test images because" in report


@pytest.mark.thorough
def test_its_folder_can_be_moved(demonstration, tmp_path):
    moved = Path(shutil.copytree(demonstration / "demo", tmp_path / "elsewhere"))
    triplets = cm.Triplets.from_folder(moved / "data")
    files = {triplets.file(index, role) for index in range(40) for role in ("x", "y_hat", "y")}
    assert all(file.is_relative_to(moved) for file in files)


def test_pictures_of_others_stay(tmp_path):
    mine = tmp_path / "y" / "mine.png"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    with pytest.raises(OutputError, match="mine"):
        write_crops(tmp_path)
    assert list(tmp_path.rglob("*.*")) == [mine]
