"""The run at its smallest: half of the rows, on real images, killed and resumed, refused before training."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conformask.cli import main
from conformask.errors import ImageError, InvalidArgumentError, MissingFileError
from conformask.extensions import pip_install
from conformask.extras.paper import ROWS
from conformask.extras.paper.reproduce import reproduce
from conformask.extras.paper.table import COLUMNS
from conformask.masker.run_folder import read_promise
from real_images import WEIGHTS

SMOKE = [row for row in ROWS if row.number in (1, 4, 6, 7, 9, 12, 13, 16)]
"""Each task, set of images, network and distance is among them."""
PAPER = [Path(sys.executable).with_name("conformask"), "paper", "--preset", "smoke"]
METHODS = ["exact", "opt", "mask", "quantile", "default"]


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nowhere"))


pytestmark = pytest.mark.xdist_group("paper")
"""All in one process, which runs the rows once."""


@pytest.fixture(scope="module")
def smoke(folders, tmp_path_factory):
    """The rows SMOKE; without those of LPIPS where the network under it is not at hand."""
    out = tmp_path_factory.mktemp("smoke")
    rows = [row.number for row in SMOKE if WEIGHTS.is_dir() or row.distance != "lpips"]
    weights = WEIGHTS / "hub" / "checkpoints" if WEIGHTS.is_dir() else None
    done = reproduce(
        out, preset="smoke", photos=folders.photos, cells=folders.cells, rows=rows, weights_path=weights
    )
    return out, done


def read(out):
    with (out / "paper.csv").open(encoding="utf-8") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        return list(reader)


def test_columns_are_those_of_the_issue():
    assert ", ".join(COLUMNS) == (
        "row, task, data, network, distance, method, mask_size, mask_size_low, mask_size_high, coverage, "
        "c_size_distance, c_size_opt, n_calibration, n_test"
    )


@pytest.mark.slow
def test_every_row_has_a_line_for_every_method(smoke):
    out, done = smoke
    lines = read(out)
    rows = [each.result.row for each in done.finished]
    if WEIGHTS.is_dir():
        assert rows == SMOKE
    keys = [(row.number, row.task, row.data, row.network, row.distance, m) for row in rows for m in METHODS]
    assert [(int(line["row"]), *(line[name] for name in COLUMNS[1:6])) for line in lines] == [
        (number, *rest) for number, *rest in keys
    ]
    for line in lines:
        if line["method"] == "exact" and line["distance"] in ("ssim", "lpips"):
            assert line["mask_size"] == line["coverage"] == ""
            continue
        assert (
            0
            <= float(line["mask_size_low"])
            <= float(line["mask_size"])
            <= float(line["mask_size_high"])
            <= 1
        )
        assert 0.5 < float(line["coverage"]) <= 1
    sizes = {(int(line["row"]), line["method"]): line["mask_size"] for line in lines}
    for number in (row.number for row in rows if row.distance in ("l1", "l2")):
        exact, opt = float(sizes[number, "exact"]), float(sizes[number, "opt"])
        assert exact <= opt
        assert all(exact <= float(sizes[number, method]) for method in METHODS)


@pytest.mark.slow
def test_the_page_tells_all(smoke):
    text = (smoke[0] / "paper.md").read_text(encoding="utf-8")
    for heading in (
        "Image completion",
        "Ratios of mask sizes",
        "Differences",
        "Coverage by field",
        "Settings",
    ):
        assert f"{heading}" in text
    assert "Unfinished" not in text
    assert all(path.is_file() for path in smoke[1].files)


@pytest.mark.slow
def test_again_nothing_is_done_again(smoke, folders, capfd):
    out, _ = smoke
    before = {path: path.stat().st_mtime_ns for path in (out / "stages").rglob("*")}
    table = (out / "paper.csv").read_bytes()
    words = ["paper", "--preset", "smoke", "--photos", folders.photos, "--cells", folders.cells]
    main([str(word) for word in (*words, "--out", out, "--rows", "9,13", "--json")])
    record = json.loads(capfd.readouterr().out)
    assert {line["row"] for line in record["rows"]} == {9, 13}
    assert {path: path.stat().st_mtime_ns for path in (out / "stages").rglob("*")} == before
    lines = [line for line in table.decode().splitlines() if line.split(",")[0] in ("9", "13")]
    assert (out / "paper.csv").read_text(encoding="utf-8").splitlines()[1:] == lines


@pytest.mark.slow
def test_rows_that_were_run_elsewhere_need_their_evaluations_and_oracles_alone(smoke, folders, tmp_path):
    out, _ = smoke
    reproduce(out, preset="smoke", photos=folders.photos, rows=[9])
    table = (out / "paper.csv").read_bytes()
    for kind in ("opt", "evaluation"):
        for stage in (out / "stages").glob(f"{kind}-super_resolution-photos-regressor-l1*"):
            shutil.copytree(stage, tmp_path / "stages" / stage.name)
    before = set((tmp_path / "stages").iterdir())
    reproduce(tmp_path, preset="smoke", photos=folders.photos, rows=[9])
    assert (tmp_path / "paper.csv").read_bytes() == table
    assert set((tmp_path / "stages").iterdir()) == before


@pytest.mark.slow
def test_a_killed_run_goes_on(made_photos, tmp_path):
    command = [*PAPER, "--photos", made_photos, "--out", tmp_path, "--rows", "9"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    stages = tmp_path / "stages"
    deadline = time.monotonic() + 120
    while not list(stages.glob("triplets-*/done.json")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL, "it was still at work"
    assert not (tmp_path / "paper.csv").exists()
    done = {path: path.stat().st_mtime_ns for path in stages.glob("*/done.json")}
    finished = reproduce(tmp_path, preset="smoke", photos=made_photos, rows=[9]).finished
    assert len(finished) == 1
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert len(read(tmp_path)) == len(METHODS)


def lambdas(out):
    """The lambda of each method."""
    cards = {path.name: read_promise(path)[0] for path in (out / "stages").glob("calibration-*")}
    return {name: float(card.rule.lam) for name, card in cards.items()}


@pytest.mark.slow
def test_two_processes_calibrate_as_one(made_photos, tmp_path):
    """They train, score and calibrate together; then one process calibrates the same networks again."""
    command = [*PAPER, "--photos", made_photos, "--out", tmp_path, "--rows", "9", "--devices", "2", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    told = {line["method"]: line for line in json.loads(done.stdout)["rows"]}
    assert set(told) == set(METHODS)
    together = lambdas(tmp_path)
    for kind in ("calibration", "evaluation"):
        for folder in (tmp_path / "stages").glob(f"{kind}-*"):
            shutil.rmtree(folder)
    alone = reproduce(tmp_path, preset="smoke", photos=made_photos, rows=[9]).finished[0]
    assert len(together) == 3
    assert lambdas(tmp_path) == pytest.approx(together, rel=1e-6)
    for method, evaluation in alone.result.methods.items():
        assert told[method]["mask_size"] == pytest.approx(evaluation.mask_size, rel=1e-5)


@pytest.mark.slow
def test_the_folders_of_places365_work_as_they_are(made_photos, tmp_path):
    done = reproduce(tmp_path, preset="smoke", photos=made_photos, rows=[14])
    assert sum(done.finished[0].images.values()) <= 24 + 8 + 12 + 8
    assert done.finished[0].images["calibration"] == 12


@pytest.mark.usefixtures("no_network")
def test_a_missing_network_is_told_before_any_training(made_photos, tmp_path):
    with pytest.raises(MissingFileError, match="squeezenet"):
        reproduce(tmp_path / "out", preset="smoke", photos=made_photos, rows=[1, 2])
    assert not (tmp_path / "out").exists()


def test_matplotlib_is_needed_before_any_training(made_photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingFileError, match=f"paper needs matplotlib.*{re.escape(pip_install('plot'))}"):
        reproduce(tmp_path / "out", preset="smoke", photos=made_photos, rows=[9])
    assert not (tmp_path / "out").exists()


def test_what_cannot_work_is_refused_before_any_training(made_photos, tmp_path):
    out = tmp_path / "out"
    empty = tmp_path / "empty"
    empty.mkdir()
    few = tmp_path / "few"
    few.mkdir()
    for index, path in enumerate(sorted(made_photos.rglob("*.jpg"))[:20]):
        (few / f"{index}.jpg").write_bytes(path.read_bytes())
    for match, error, settings in (
        ("preset 'smok' is unknown.*did you mean 'smoke'", InvalidArgumentError, {"preset": "smok"}),
        ("split 'file' is unknown", InvalidArgumentError, {"split": "file"}),
        ("rows: 17", InvalidArgumentError, {"rows": [1, 17]}),
        ("rows 5 need --cells", InvalidArgumentError, {"rows": [5]}),
        ("is not a folder", MissingFileError, {"photos": tmp_path / "none"}),
        ("contains no images", MissingFileError, {"photos": empty}),
        (r"too few images.*\d+ of 8 train.*\d+ of 9 calibration", InvalidArgumentError, {"photos": few}),
    ):
        given = {"preset": "smoke", "photos": made_photos, "rows": [9], **settings}
        with pytest.raises(error, match=match):
            reproduce(out, **given)
    assert not out.exists()


@pytest.mark.parametrize("content", [b"no image", None], ids=["no image", "truncated"])
def test_a_damaged_image_is_told_before_any_training(made_photos, tmp_path, content):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, path in enumerate(sorted(made_photos.rglob("*.jpg"))):
        (folder / f"{index}.jpg").write_bytes(path.read_bytes())
    whole = (folder / "7.jpg").read_bytes()
    (folder / "7.jpg").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ImageError, match=r"7\.jpg"):
        reproduce(tmp_path / "out", preset="smoke", photos=folder, rows=[9])
    assert not list((tmp_path / "out").glob("stages/predictor-*"))


def test_grey_photographs_cannot_be_colourised(tmp_path):
    import numpy as np
    from PIL import Image

    for index in range(90):
        noise = np.random.default_rng(index).integers(0, 255, (40, 40), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{index}.png")
    with pytest.raises(ImageError, match="needs colour images"):
        reproduce(tmp_path / "out", preset="smoke", photos=tmp_path, rows=[13])
