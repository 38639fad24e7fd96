"""A promise without training on the command line, and what training says of itself."""

import csv
import json
from pathlib import Path

import pytest

import conformask as cm
from conformask.images.triplets import Triplets
from conformask.scores.untrained import Untrained

TERMS = ("--threshold", "0.02", "--confidence", "0.8")


@pytest.mark.thorough
@pytest.mark.parametrize("scorer", ["packaged", "spread"])
def test_a_promise_without_training(conformask, own: Path, scorer: str) -> None:
    data, run = own / "data", own / f"with-{scorer}"
    answer = conformask("calibrate", "--scorer", scorer, data, *TERMS, "--out", run)
    assert answer.status == 0
    assert answer.out.startswith("In at least 80 % of new tiles of these files, what stays visible is off by")
    assert answer.out.splitlines()[-1].startswith("P(l1 <= 0.02) >= 0.80 for ")
    assert not (run / "metrics.csv").exists()
    record = conformask("evaluate", run, data, "--json").record
    assert record["scorer"] == scorer
    assert conformask("mask", run, data, own / f"masks-{scorer}").status == 0
    stricter = conformask("recalibrate", run, "--threshold", "0.01", "--json").record
    assert stricter["formula"].startswith("P(l1 <= 0.01)")


def test_without_a_threshold_it_shows_what_thresholds_would_mean(conformask, own: Path) -> None:
    asked = ("calibrate", "--scorer", "packaged", own / "data", "--confidence", "0.5")
    shown = conformask(*asked)
    assert shown.status == 0
    assert (
        "What a threshold on l1 would mean (marginal, confidence 0.5), on the selection images" in shown.out
    )
    assert f"calibrate --scorer packaged {own / 'data'} --threshold T --out RUN" in shown.out
    sizes = [choice["mask_size"] for choice in conformask(*asked, "--json").record["choices"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


@pytest.mark.thorough
def test_a_tenth_is_set_aside_where_the_images_are_not_split(conformask, own: Path) -> None:
    """So that bounds, other thresholds and promises on a grid work after it."""
    run, data = own / "unsplit", own / "data"
    total = len(Triplets.from_folder(data))
    lines = csv.DictReader((data / "manifest.csv").read_text(encoding="utf-8").splitlines())
    with (data / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        kept = csv.DictWriter(file, ["x", "y_hat", "y"], extrasaction="ignore")
        kept.writeheader()
        kept.writerows(lines)
    answer = conformask("calibrate", "--scorer", "residual", data, *TERMS, "--out", run)
    aside, rest = round(total / 10), total - round(total / 10)
    assert (
        f"{aside} of the {total} images were set aside for choices that the {rest} calibration" in answer.out
    )
    assert f"like the {rest} calibration images" in answer.out
    images, selection = Triplets.from_folder(data).set_aside()  # the same in Python
    terms = {"threshold": 0.02, "promise": cm.Promise(confidence=0.8), "selection": selection}
    masker = cm.calibrate(Untrained("residual"), images, **terms)
    of_run = cm.load(run)
    assert (masker.card.calibrated_on, masker.card.rule) == (of_run.card.calibrated_on, of_run.card.rule)
    for promise in ("expected", "adaptive", "simultaneous"):
        again = conformask("calibrate", run, data, "--threshold", "0.02", "--guarantee", promise)
        assert again.status == 0, again.err


@pytest.mark.parametrize(
    "tokens",
    [
        ("DATA", "--threshold", "0.02"),
        ("RUN", "DATA", "--threshold", "0.02", "--out", "NEW"),
    ],
)
def test_it_needs_data_and_a_new_folder(conformask, own: Path, tokens: tuple[str, ...]) -> None:
    places = {"DATA": own / "data", "RUN": own / "run", "NEW": own / "new"}
    answer = conformask("calibrate", "--scorer", "packaged", *(places.get(token, token) for token in tokens))
    assert answer.status == 2
    assert "with --scorer packaged give DATA and --out" in answer.err


def test_out_is_for_scorers_without_training(conformask, own: Path) -> None:
    answer = conformask("calibrate", own / "run", own / "data", *TERMS, "--out", own / "new")
    assert answer.status == 2
    assert "--out goes with --scorer" in answer.err


@pytest.mark.thorough
def test_training_says_what_it_is_worth_there_and_in_info_and_report(conformask, own: Path) -> None:
    run = own / "tuned"
    answer = conformask("train", own / "data", run, "--epochs", "1", "--threshold", "q0.5")
    assert answer.status == 0
    comparison = conformask("info", run, "--json").record["comparison"]
    if comparison is None:
        assert "How well the score performs is not known" in answer.out
    else:
        for shown in (answer, conformask("info", run, "--research")):
            assert "its masks hide " in shown.out
            assert "a constant score" in shown.out.split(" would hide ", 1)[1]
        assert set(comparison) >= {"hidden", "interval", "others", "clearly_less", "oracle", "correlation"}
    conformask("calibrate", run, own / "data", *TERMS)
    conformask("evaluate", run, own / "data", "--report", own / "report.html")
    kept = json.loads((run / "evaluation.json").read_text())["comparison"]
    assert kept == comparison
    shown = " would hide " in (own / "report.html").read_text()
    assert shown is (comparison is not None)
