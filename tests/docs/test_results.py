"""The page of results in short holds nothing that the pages of results do not."""

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
