"""The page of results in short holds nothing that the pages of results do not."""

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
