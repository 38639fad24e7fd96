"""The main job from true images to a report, by command line and from Python, on real photographs."""

import csv
import json

import numpy as np
import pytest
import torch

import conformask as cm
from conformask.cli import main
from conformask.extras.make.demonstration import packaged_photographs
from conformask.images.read import decode, pixel_hash, write_image
from conformask.records.record import LOCK

SIDE = 128
TILES = ["--task", "super_resolution", "--size", "32", "--stride", "32", "--split", "tile"]
SMALL = ["--width", "4", "--epochs", "2"]


@pytest.fixture
def conformask(capfd, tmp_path, monkeypatch):
    """Runs a verb in tmp_path, gives its JSON."""
    monkeypatch.chdir(tmp_path)

    def run(*tokens):
        capfd.readouterr()
        main([*map(str, tokens), "--json"])
        record: dict = json.loads(capfd.readouterr().out)
        return record

    return run


@pytest.fixture
def images(tmp_path):
    for name, pixels in packaged_photographs().items():
        top, left = ((side - SIDE) // 2 for side in pixels.shape[:2])
        middle = pixels[top : top + SIDE, left : left + SIDE].astype(np.float32) / 255
        write_image(tmp_path / "images" / f"{name}.png", np.moveaxis(middle, -1, 0))
    return tmp_path / "images"


def hashes(triplets):
    return {pixel_hash(triplet.truth()) for triplet in triplets}


def check_masks(masker, data, out, sizes):
    """16 bits, and the table agrees; the rounding of scores in a batch may move the boundary by a pixel."""
    for triplet in data.select(range(0, len(data), 15)):
        x, y_hat = (torch.from_numpy(image)[None] for image in (triplet.x, triplet.y_hat))
        mask = masker(x, y_hat)[0].numpy()
        read = decode(out / "masks" / f"{triplet.name}.png")
        assert read.dtype == np.uint16
        back = (read / 65535).astype(np.float32)
        assert np.count_nonzero(back != mask[0]) <= 1
        assert sizes[triplet.name] == pytest.approx(1 - mask.mean(), abs=1.5 / mask.size)
        assert (out / "overlays" / f"{triplet.name}.jpg").is_file()


@pytest.mark.thorough
def test_the_whole_path_by_command_line(conformask, images, tmp_path):
    predictor = conformask("predictor", "images", "net", *TILES, *SMALL)
    assert 0 < predictor["n_train"] < predictor["n_images"]
    made = conformask("triplets", "images", "data", "--predictor", "net", *TILES)
    assert made["n"] == predictor["n_images"]
    found = conformask("check", "data")
    assert found["warnings"] == []
    assert sum(found["parts"].values()) == made["n"]
    assert conformask("train", "data", "run", "--scorer", "mask", *SMALL)["scorer"] == "mask"
    choices = conformask("thresholds", "run")["choices"]
    assert [c["threshold"] for c in choices] == sorted(c["threshold"] for c in choices)
    threshold = choices[2]["threshold"]
    promised = conformask("calibrate", "run", "data", "--threshold", threshold)
    assert promised["threshold"] == threshold
    assert promised["exact"]
    assert "new tiles of these files" in promised["sentence"]

    masked = conformask("mask", "run", "data", "out")
    data, masker = cm.Triplets.from_folder("data"), cm.load("run")
    with (tmp_path / "out" / "sizes.csv").open() as file:
        sizes = {row["name"]: float(row["mask_size"]) for row in csv.DictReader(file)}
    assert tuple(sizes) == data.names
    assert masked["mask_size"] == pytest.approx(np.mean(list(sizes.values())), abs=1e-5)
    check_masks(masker, data, tmp_path / "out", sizes)

    evaluation = conformask("evaluate", "run", "data", "--report", "report.html")
    assert evaluation["n_test"] == found["parts"]["test"]
    assert 0 <= evaluation["coverage"] <= 1
    assert 0 <= evaluation["mask_size_oracle"] <= evaluation["mask_size_paper_oracle"] + 1e-6
    assert evaluation["sentence"] in (tmp_path / "report.html").read_text().replace("&lt;", "<").replace(
        "&gt;", ">"
    )
    told = conformask("info", "run")
    assert told["sentence"] == promised["sentence"]
    assert told["evaluation"]["coverage"] == evaluation["coverage"]

    again = conformask("recalibrate", "run", "--threshold", 2 * threshold, "--confidence", 0.8)
    assert not again["exact"]
    assert again["lam"] >= promised["lam"]
    assert again["promise"]["confidence"] == 0.8
    assert conformask("info", "run")["sentence"] == again["sentence"]

    learnt = set(json.loads((tmp_path / "net" / "predictor.json").read_text())["trained_on"])
    assert learnt
    assert learnt <= hashes(data.part("train"))
    assert not learnt & (hashes(data.part("calibration")) | hashes(data.part("test")))
    leftovers = [path for path in tmp_path.rglob(".*") if path.is_file() and path.name != LOCK]
    assert not leftovers


@pytest.mark.thorough
def test_ssim_per_channel_masks_as_tiff(conformask, images, tmp_path):
    conformask("triplets", "images", "data", "--predictor", "bicubic", *TILES)
    kind = ["--loss", "ssim", "--scorer", "mask", "--per-channel"]
    conformask("train", "data", "run", *SMALL, *kind)
    promised = conformask("calibrate", "run", "data", "--threshold", "q0.5", "--family", "reciprocal")
    assert not promised["exact"]
    assert promised["formula"].startswith("P(ssim <= ")
    assert conformask("evaluate", "run", "data")["mask_size_oracle"] is None
    for triplet in cm.Triplets.from_folder("data").part("test").select(range(3)):
        for role in ("x", "y_hat"):
            write_image(tmp_path / "new" / role / f"{triplet.name}.tiff", getattr(triplet, role), bits=16)
    assert conformask("mask", "run", "new", "out")["n"] == 3
    masks = sorted((tmp_path / "out" / "masks").iterdir())
    assert [path.suffix for path in masks] == [".tiff"] * 3
    assert decode(masks[0]).shape == (32, 32, 3)
    assert decode(masks[0]).dtype == np.uint16


@pytest.mark.thorough
def test_the_python_path(conformask, images, tmp_path):
    conformask("triplets", "images", "made", "--predictor", "bicubic", *TILES)
    (tmp_path / "made" / "manifest.csv").unlink()

    triplets = cm.Triplets.from_folder("made")
    split = triplets.split(seed=0)
    scorer = cm.fit_scorer(
        split.train,
        selection=split.selection,
        loss="l1",
        training=cm.TrainingConfig(epochs=1),
        network=cm.NetworkOptions(width=4),
        out="runs/l1",
    )
    masker = cm.calibrate(scorer, split.calibration, threshold=0.04, promise=cm.Promise(confidence=0.9))
    assert f"like the {len(split.calibration)} calibration images (marginal)" in masker.formula
    triplet = split.test[0]
    x, y_hat = (np.moveaxis(image, 0, -1) for image in (triplet.x, triplet.y_hat))
    mask = masker(x, y_hat)
    assert mask.shape == (32, 32)
    assert mask.min() >= 0
    assert mask.max() <= 1
    evaluation = cm.evaluate(masker, split.test)
    cm.write_report(evaluation, "report.html")
    masker.save("masker")
    again = cm.load("masker")
    assert again.sentence == masker.sentence
    np.testing.assert_array_equal(again(x, y_hat), mask)
    easier = again.recalibrate(threshold=0.08)
    assert easier(x, y_hat).mean() >= mask.mean() - 1e-6
    assert not any(path.suffix in (".pkl", ".pickle", ".ckpt") for path in (tmp_path / "masker").rglob("*"))
