"""A promise without training on the command line, and what training says of itself."""

import json
from pathlib import Path

import pytest

TERMS = ("--threshold", "0.02", "--confidence", "0.8")


@pytest.mark.parametrize("scorer", ["packaged", "spread"])
def test_a_promise_without_training(conformask, own: Path, scorer: str) -> None:
    data, run = own / "data", own / f"with-{scorer}"
    answer = conformask("calibrate", "--scorer", scorer, data, *TERMS, "--out", run)
    assert answer.status == 0
    assert answer.out.startswith("P(l1 <= 0.02) >= 0.80 for ")
    assert not (run / "metrics.csv").exists()
    record = conformask("evaluate", run, data, "--json").record
    assert record["scorer"] == scorer
    assert conformask("mask", run, data, own / f"masks-{scorer}").status == 0
    stricter = conformask("recalibrate", run, "--threshold", "0.01", "--json").record
    assert stricter["sentence"].startswith("P(l1 <= 0.01)")


@pytest.mark.parametrize(
    "tokens",
    [
        ("DATA", "--threshold", "0.02"),
        ("DATA", "--out", "NEW"),
        ("RUN", "DATA", "--threshold", "0.02", "--out", "NEW"),
    ],
)
def test_it_needs_data_threshold_and_a_new_folder(conformask, own: Path, tokens: tuple[str, ...]) -> None:
    places = {"DATA": own / "data", "RUN": own / "run", "NEW": own / "new"}
    answer = conformask("calibrate", "--scorer", "packaged", *(places.get(token, token) for token in tokens))
    assert answer.status == 2
    assert "with --scorer packaged give DATA, --threshold and --out" in answer.err


def test_out_is_for_scorers_without_training(conformask, own: Path) -> None:
    answer = conformask("calibrate", own / "run", own / "data", *TERMS, "--out", own / "new")
    assert answer.status == 2
    assert "--out goes with --scorer" in answer.err


def test_training_says_what_it_is_worth_there_and_in_info_and_report(conformask, own: Path) -> None:
    run = own / "tuned"
    answer = conformask("train", own / "data", run, "--epochs", "1", "--threshold", "q0.5")
    assert answer.status == 0
    comparison = conformask("info", run, "--json").record["comparison"]
    if comparison is None:
        assert "How well the score performs is not known" in answer.out
    else:
        assert "the best possible masks hide" in answer.out
        assert "the best possible masks hide" in conformask("info", run).out
        assert set(comparison) >= {"hidden", "interval", "others", "clearly_less", "oracle", "correlation"}
    conformask("calibrate", run, own / "data", *TERMS)
    conformask("evaluate", run, own / "data", "--report", own / "report.html")
    kept = json.loads((run / "evaluation.json").read_text())["comparison"]
    assert kept == comparison
    shown = "Before calibration the score was compared with others" in (own / "report.html").read_text()
    assert shown is (comparison is not None)
