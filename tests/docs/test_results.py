"""The page of results in short holds nothing that the pages of results do not."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "results" / "in-short.md").read_text(encoding="utf-8")
SOURCES = "".join(
    (DOCS / name).read_text(encoding="utf-8") for name in ("gallery.md", "results/smaller-masks.md")
)
ROWS = [line for line in PAGE.splitlines() if re.match(r"\| .*\d\.\d", line)]
NUMBERS = re.findall(r"\d+%|\d\.\d+", PAGE)


def test_rows_are_found() -> None:
    assert len(ROWS) == 9


@pytest.mark.parametrize("row", ROWS)
def test_a_row_stands_in_the_results(row: str) -> None:
    assert row in SOURCES.splitlines()


@pytest.mark.parametrize("number", sorted(set(NUMBERS)))
def test_a_number_stands_in_the_results(number: str) -> None:
    assert re.search(rf"(?<![\d.]){re.escape(number)}", SOURCES)


def test_the_page_about_maps_has_the_numbers_of_its_record() -> None:
    record = json.loads((DOCS.parent / "research" / "results" / "given_map.json").read_text(encoding="utf-8"))
    page = " ".join((DOCS / "how-to" / "confidence-map.md").read_text(encoding="utf-8").split())
    hidden = {name: f"{100 * found['hidden']:.0f} %" for name, found in record.items()}
    given = record["its spread over flips"]
    for text in (
        f"hides {hidden['its spread over flips']} of the {given['n_test']} test crops",
        f"the packaged score {hidden['packaged']}",
        f"for which nothing is run, {hidden['gradient']}",
        f"the best possible masks {100 * given['best']:.0f} %",
    ):
        assert text in page


def test_the_page_about_objects_has_the_numbers_of_its_record() -> None:
    record = json.loads((DOCS.parent / "research" / "results" / "objects.json").read_text(encoding="utf-8"))
    page = " ".join((DOCS / "how-to" / "objects.md").read_text(encoding="utf-8").split())
    wrong = record["wrong"]
    for text in (
        f"{100 * wrong['coverage']:.0f} % of the {record['test']} test fields kept it",
        f"Of {wrong['shown']} nuclei shown {100 * wrong['shown_right'] / wrong['shown']:.1f} % are there",
        f"of all {wrong['n']:,} {100 * wrong['right'] / wrong['n']:.1f} %",
        f"lacks {100 * wrong['lacking'] / wrong['true']:.1f} % of the {wrong['true']:,} nuclei",
        f"hides {100 * wrong['hidden']:.0f} % of the nuclei, the packaged score "
        f"{100 * record['packaged']['hidden']:.0f} %",
    ):
        assert text in page
    assert wrong["threshold"] == 0.1


def test_the_page_about_samples_has_the_numbers_of_its_record() -> None:
    record = json.loads((DOCS.parent / "research" / "results" / "sampler.json").read_text(encoding="utf-8"))
    page = " ".join((DOCS / "how-to" / "generative.md").read_text(encoding="utf-8").split())
    two, four, eight = (record["intervals"][count] for count in ("2", "4", "8"))
    covered = [f"{100 * each['normal']:.0f} %" for each in (eight, four, two)]
    perfect = [f"{100 * each['normal_perfect']:.0f}" for each in (eight, four, two)]
    for text in (
        f"On {record['photographs']} photographs",
        f"holds {covered[0]} of the true pixels with {record['samples']} samples, {covered[1]} with 4 and "
        f"{covered[2]} with 2",
        f"90 % of the pixels in only {100 * eight['normal_images']:.0f} % of the photographs",
        f"would give {perfect[0]}, {perfect[1]} and {perfect[2]} %",
        f"the range of eight {100 * eight['range_perfect']:.0f} % (here {100 * eight['range']:.0f} %)",
        f"at most {record['threshold']} of mean error",
    ):
        assert text in page
    shown = {"one": "one", "mean": "the mean", "all": "all, every", "random": "all, a random"}
    for name, measured in record["masks"].items():
        row = f"| {shown[name]} | {100 * measured['coverage']:.1f} % | {100 * measured['hidden']:.0f} % |"
        assert row in page


def test_masks_of_samples_keep_to_the_law_and_intervals_fall_short() -> None:
    """200 resplits, and three of them with deployed masks; 4 sigma are allowed."""
    record = json.loads((DOCS.parent / "research" / "results" / "sampler.json").read_text(encoding="utf-8"))
    assert max(each["normal"] for each in record["intervals"].values()) < 0.9
    for name, measured in record["masks"].items():
        sigma = measured["law_std"]
        assert abs(measured["coverage"] - measured["law_mean"]) < 4 * sigma / 200**0.5, name
        assert name == "random" or abs(measured["coverage_std"] - sigma) < 4 * sigma / 400**0.5, name
        assert all(abs(each - measured["law_mean"]) < 4 * sigma for each in measured["deployed"]), name


def test_the_page_without_truth_has_the_numbers_of_its_record() -> None:
    record = json.loads((DOCS.parent / "research" / "results" / "repeats.json").read_text(encoding="utf-8"))
    page = (DOCS / "how-to" / "no-clean-truth.md").read_text(encoding="utf-8")
    ways = ("clean", "products, clt", "products, exact", "mean of two as truth")
    for kind, found in record.items():
        cells = [
            f"{100 * found['ways'][way]['hidden']:.0f} % ({100 * found['ways'][way]['coverage']:.0f} %)"
            for way in ways
        ]
        assert f"| {kind}, {found['n']} of {found['side']} pixels | {' | '.join(cells)} |" in page


def test_the_page_about_training_is_what_its_script_writes(tmp_path: Path) -> None:
    before = (DOCS / "results" / "cues.md").read_text(encoding="utf-8")
    spec = importlib.util.spec_from_file_location("page", DOCS.parent / "research" / "cues_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.PAGE = tmp_path / "cues.md"
    module.main()
    assert module.PAGE.read_text(encoding="utf-8") == before
