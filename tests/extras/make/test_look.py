"""conformask look: three folders, nothing else."""

import csv
import io
import json
import re
import shutil
from html import escape
from pathlib import Path

import numpy as np
import pytest

import conformask as cm
from conformask.extras.make import verbs as verb
from conformask.images.read import read_image, write_image
from conformask.records.words import comparison_text
from terminal import stopped

ROLES = ("x", "y_hat", "y")


def write(folder, count, name="{:03d}"):
    """Noisy images, smoothed, in folders that are called as people call them."""
    generator = np.random.default_rng(0)
    folders = [folder / each for each in ("noisy", "denoised", "clean")]
    for index in range(count):
        y = np.cumsum(generator.random((1, 24, 24), np.float32), axis=2) / 24
        x = (y + generator.uniform(0.02, 0.2) * generator.standard_normal(y.shape)).clip(0, 1)
        y_hat = (x + np.roll(x, 1, axis=2) + np.roll(x, -1, axis=2)) / 3
        for place, image in zip(folders, (x, y_hat, y), strict=True):
            write_image(place / f"{name.format(index)}.png", image.astype(np.float32))
    return folders


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write(tmp_path_factory.mktemp("three"), 60)


@pytest.mark.thorough
def test_from_three_folders_to_a_tested_promise(conformask, folders, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(verb, "is_attended", lambda: True)
    monkeypatch.setattr(verb, "open_viewer", lambda masker, shown, **how: opened.append((masker, shown, how)))
    out = tmp_path / "first"
    answer = conformask("look", *folders, "--out", out)
    assert answer.status == 0, answer.err
    masker = cm.load(out / "run")
    assert (out / "report.html").is_file()
    (viewed,) = opened
    assert viewed[0].sentence == masker.sentence
    assert viewed[2]["with_promise"] is False, "which is printed already"
    test = cm.Triplets.from_folder(out / "data").part("test")
    assert viewed[1].names == test.names
    sizes = {triplet.name: 1 - float(np.mean(np.asarray(masker(triplet)))) for triplet in test}
    assert sizes[viewed[2]["image"]] == max(sizes.values())
    measured = cm.evaluate(masker, test)
    kept = round(21 * measured.coverage)
    assert answer.out.splitlines() == [
        f"{'●' * kept}{'○' * (21 - kept)}  {kept} of 21 test images {measured.kept_text.split('images ')[1]}",
        masker.sentence,
        measured.hidden_text,
        "Next, for new images in x/ and y_hat/ of a folder NEW:",
        f"conformask mask {out / 'run'} NEW masks",
        f"Report: {out / 'report.html'}",
    ]
    assert measured.comparison is not None
    assert measured.comparison.part == "test", "8 selection images are too few to compare scores on"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert escape(comparison_text(measured.comparison, best=False)) in page
    assert f"<title>{escape(masker.sentence)}" in page
    assert f"<code>{escape(masker.formula)}</code>" in page
    with (out / "data" / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {Path(row["y_hat"]).parent for row in rows} == {folders[1]}
    assert sorted(row["name"] for row in rows) == [f"{index:03d}" for index in range(60)]
    parts = {part: {row["name"] for row in rows if row["split"] == part} for part in ("calibration", "test")}
    assert not parts["calibration"] & parts["test"]
    shown = conformask("thresholds", out / "run")
    assert shown.status == 0, shown.err
    assert "on the calibration images:" in shown.out
    assert (
        "A threshold that is chosen on these images, which calibrated the masks, is exploratory" in shown.out
    )
    again = conformask("look", *folders, "--out", out, "--threshold", "0.05", "--json")
    record, masker = json.loads(again.out), cm.load(out / "run")
    assert (record["sentence"], record["formula"]) == (masker.sentence, masker.formula)
    assert record["parts"] == {"calibration": 31, "selection": 8, "test": 21}
    assert cm.load(out / "run").card.threshold == 0.05


OPTIONS = {
    "maps": (("--score-from", "maps", "--higher", "trusted"), "maps", "at most 3 % of the range"),
    "local": (("--over", "local", "--window", "3"), "x", "around every pixel shown"),
    "labels": (("--objects", "labels"), "labels", "at most 3 % of the objects shown"),
    "components": (("--objects", "components:0.3", "--over", "any"), "x", "no wrong object is shown"),
}


@pytest.mark.thorough
@pytest.mark.parametrize("case", OPTIONS)
def test_maps_losses_and_objects_as_calibrate_takes_them(conformask, folders, tmp_path, case):
    options, beside, words = OPTIONS[case]
    data = {role: tmp_path / role for role in ROLES}
    for folder, role in zip(folders, ROLES, strict=True):
        shutil.copytree(folder, data[role])
    for index in range(60):
        y_hat = read_image(data["y_hat"] / f"{index:03d}.png")
        (tmp_path / "maps").mkdir(exist_ok=True)
        np.save(tmp_path / "maps" / f"{index:03d}.npy", -np.abs(np.gradient(y_hat[0], axis=1)))
        for role in ("y_hat", "y"):
            (tmp_path / "labels" / role).mkdir(exist_ok=True, parents=True)
            np.save(tmp_path / "labels" / role / f"{index:03d}.npy", (y_hat[0] > 0.3).astype(np.uint8))
    answer = conformask(
        "look", *data.values(), "--out", tmp_path / "out", "--no-view", "--threshold", "3%", *options
    )
    assert answer.status == 0, answer.err
    assert words in cm.load(tmp_path / "out" / "run").sentence
    assert beside == "x" or f"for new images in x/, {beside}/ and y_hat/" in answer.out
    again = conformask("evaluate", tmp_path / "out" / "run", tmp_path / "out" / "data", "--json")
    assert (again.status, again.record["n_test"]) == (0, 21), "the list of files names all of them"


def test_what_maps_mean_needs_maps(conformask, folders):
    answer = conformask("look", *folders, "--higher", "trusted")
    assert (answer.status, "--higher goes with --score-from" in answer.err) == (2, True)


@pytest.mark.parametrize("threshold", ["nan", "0", "q2", "much"])
def test_a_threshold_that_is_none_is_refused_first(conformask, tmp_path, threshold):
    answer = conformask("look", *[tmp_path / "nothing"] * 3, "--threshold", threshold)
    assert answer.status == 1
    assert "a distance above 0" in answer.err


@pytest.mark.thorough
def test_in_a_terminal_the_viewer_opens_until_ctrl_c(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER", "true")
    command = ["look", *map(str, folders), "--out", str(tmp_path / "out"), "--port", "0"]
    shown, status = stopped(f"from conformask.cli import main; main({command})", "press Ctrl-C to stop")
    assert re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+#/image/", "".join(shown.split()))
    assert status in (0, 130), shown  # 130 where the server has not started yet


@pytest.mark.thorough
def test_names_that_look_like_groups_are_asked_about(conformask, tmp_path, monkeypatch):
    folders = write(tmp_path, 60, "slide{0:02d}_z1")
    for place in folders:
        for index in range(60):
            (place / f"slide{index:02d}_z1.png").rename(place / f"slide{index // 2:02d}_z{index % 2}.png")
    answer = conformask("look", *folders, "--out", tmp_path / "kept", "--no-view")
    assert "Names suggest 30 slides, stacks or patients, such as slide00" in answer.err
    masker = cm.load(tmp_path / "kept" / "run")
    assert masker.sentence.startswith("In at least 9 of 10 new images, each drawn from a new group, ")
    assert "warning: groups" not in answer.out
    split = cm.Triplets.from_folder(tmp_path / "kept" / "data")
    assert len(set(split.groups)) == 30
    terminal = io.StringIO("n\n")
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    answer = conformask("look", *folders, "--out", tmp_path / "apart", "--no-view")
    assert "Keep the images of each together? [Y/n]" in answer.err
    assert len(set(cm.Triplets.from_folder(tmp_path / "apart" / "data").groups)) == 60


def test_what_is_wrong_is_said_before_any_work(conformask, folders, tmp_path):
    few = write(tmp_path / "few", 12)
    answer = conformask("look", *few, "--out", tmp_path / "out", "--no-view")
    assert answer.status == 1
    assert "12 images are too few" in answer.err
    assert "give at least 18" in answer.err
    command = "conformask calibrate DATA --scorer packaged --threshold 5% --out RUN"
    assert f"12 are enough, with these folders as x/, y_hat/ and y/ of DATA:\n{command}\n" in answer.err
    for folder, role in zip(few, ROLES, strict=True):
        shutil.copytree(folder, tmp_path / "data" / role)
    answer = conformask("look", *[tmp_path / "data" / role for role in ROLES], "--out", tmp_path / "out")
    _, told = answer.err.strip().split("12 are enough:\nconformask ")
    assert conformask(*told.replace("RUN", str(tmp_path / "run")).split()).status == 0
    assert len(cm.load(tmp_path / "run").card.calibrated_on) >= 11
    fewer = write(tmp_path / "fewer", 9)
    assert "conformask calibrate" not in conformask("look", *fewer, "--out", tmp_path / "out").err
    (few[1] / "003.png").unlink()
    answer = conformask("look", *few, "--out", tmp_path / "out", "--no-view")
    assert "003.png have no partner of the same name in" in answer.err
    answer = conformask("look", folders[0], folders[1], tmp_path / "nowhere", "--out", tmp_path / "out")
    assert f"{tmp_path / 'nowhere'} is not a folder" in answer.err
    assert not (tmp_path / "out").exists()
    mine = tmp_path / "mine"
    (mine / "data").mkdir(parents=True)
    (mine / "data" / "manifest.csv").write_text("my own list")
    answer = conformask("look", *folders, "--out", mine, "--no-view")
    assert answer.status == 1
    assert "no record of conformask claims it" in answer.err
    assert (mine / "data" / "manifest.csv").read_text() == "my own list"
    assert not (mine / "run").exists()
