"""Losses, regions and the bound of each image on the command line, on tiles of real photographs."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import label

from conformask.images.read import read_image, write_image
from conformask.images.triplets import Triplets

WINDOW = ("--over", "local", "--window", "5", "--threshold", "0.1", "--confidence", "0.8")


@pytest.mark.thorough
def test_a_promise_about_windows(conformask, own: Path) -> None:
    run, data = own / "run", own / "data"
    record = conformask("calibrate", run, data, *WINDOW, "--json").record
    assert record["loss"].items() >= {"loss": "l1", "over": "local", "window": 5, "regional": False}.items()
    assert record["family"] == {"name": "binary", "bounds": "largest", "kappa": 0.0}
    assert record["formula"].startswith("P(local(l1, 5 px) <= 0.1) >= 0.80 for ")
    evaluated = conformask("evaluate", run, data, "--report", own / "report.html", "--json").record
    assert (evaluated["card"]["loss"]["over"], evaluated["card"]["loss"]["window"]) == ("local", 5)
    report = (own / "report.html").read_text(encoding="utf-8")
    off = "the output is off by at most 10 % of the range (25.5 of 255)"
    assert f"around every pixel shown {off}, averaged over 5 x 5 pixels" in report
    assert "max {ē_j : m_j &gt; 0}, with e = |y − ŷ|" in report
    again = conformask("recalibrate", run, "--threshold", "0.2", "--json").record
    assert again["formula"].startswith("P(local(l1, 5 px) <= 0.2)")
    conformask("mask", run, data, own / "masks")
    with (own / "masks" / "sizes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert all(0 < float(row["bound"]) <= 1 for row in rows)


@pytest.mark.thorough
def test_masks_without_specks(conformask, own: Path) -> None:
    run, data = own / "run", own / "data"
    command = ["calibrate", run, data, "--threshold", "0.02", "--confidence", "0.8", "--patches"]
    assert "(masks: binary in connected parts of at least 20 pixels; exact)" in conformask(*command, "20").out
    assert "connected parts" in conformask("evaluate", run, data, "--report", own / "report.html").out
    report = " ".join((own / "report.html").read_text(encoding="utf-8").split())
    assert "The masks consist of connected parts of at least 20 pixels, shown or hidden." in report
    assert "Connected parts of a mask, on average" in report
    conformask("mask", run, data, own / "masks")
    for path in (own / "masks" / "masks").iterdir():
        shown = read_image(path)[0] > 0
        sizes = [np.bincount(label(each)[0].ravel())[1:] for each in (shown, ~shown)]
        assert np.concatenate(sizes).min() >= 20
    for wrong in ("1", "2mm", "2mm2"):
        assert conformask(*command, wrong).status == 1


@pytest.mark.thorough
def test_a_score_for_each_loss(conformask, own: Path) -> None:
    tokens = ["train", own / "data", own / "missed", "--over", "missed", "--tolerance", "0.05"]
    record = conformask(*tokens, "--scorer", "error", "--width", "4", "--epochs", "1", "--json").record
    loss = record["loss"]
    assert (record["scorer"], loss["over"], loss["tolerance"]) == ("error", "missed", 0.05)
    chosen = conformask("thresholds", own / "missed")
    assert "What a threshold on missed(l1 > 0.05) would mean" in chosen.out
    promise = conformask(
        "calibrate", own / "missed", own / "data", "--threshold", "0.5", "--confidence", "0.8"
    )
    assert promise.out.splitlines()[-1].startswith("P(missed(l1 > 0.05) <= 0.5) >= 0.80")


@pytest.mark.thorough
def test_a_promise_about_regions(conformask, own: Path) -> None:
    """The manifest names one region for each triplet; two thirds of each image do not count."""
    run, data = own / "run", own / "data"
    lines = (data / "manifest.csv").read_text(encoding="utf-8").splitlines()
    region = np.zeros((1, 32, 32), np.float32)
    region[:, :, 10:20] = 1
    write_image(data / "region.png", region)
    marked = [lines[0] + ",region", *(line + ",region.png" for line in lines[1:])]
    (data / "manifest.csv").write_text("\n".join(marked), encoding="utf-8")
    assert Triplets.from_folder(data).has_regions
    assert "promises are about them alone" in conformask("check", data).out
    record = conformask("calibrate", run, data, *WINDOW, "--json").record
    assert record["loss"]["regional"] is True
    assert record["formula"].startswith("P(local(l1, 5 px) in the region <= 0.1)")
    assert conformask("monitor", run, data).status == 0
    (data / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    refused = conformask("evaluate", run, data)
    assert (refused.status, "has none: add a folder region/" in refused.err) == (1, True)
    assert conformask("mask", run, data, own / "masks").status == 0, "masks need no region"


@pytest.mark.thorough
def test_the_caveat_of_ssim_stands_beside_its_promise(conformask, own: Path) -> None:
    run, data = own / "run", own / "data"
    tokens = ["calibrate", run, data, "--loss", "ssim", "--threshold", "0.3", "--confidence", "0.8"]
    assert conformask(*tokens).out.splitlines()[-1].startswith("P(ssim <= 0.3)")
    conformask("evaluate", run, data, "--report", own / "report.html")
    for file in (own / "report.html", run / "CARD.md"):
        assert "A promise about ssim_map requires that." in file.read_text(encoding="utf-8")
