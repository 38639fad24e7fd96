"""Tables of the documentation have lines: a script that writes a page may lose them without an error."""

import csv
import re
from pathlib import Path

import pytest

from conformask.cli.promise import FEW_HIDE_MORE

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RULE = re.compile(r"\|( *:?-+:? *\|)+")


def without_lines(text: str) -> list[str]:
    """Heads of tables under whose rule nothing stands."""
    lines = text.splitlines()
    following = [*lines[1:], ""]
    return [
        lines[place - 1]
        for place, (line, after) in enumerate(zip(lines, following, strict=True))
        if RULE.fullmatch(line) and not after.startswith("|")
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_table_is_empty(page: Path) -> None:
    assert not without_lines(page.read_text(encoding="utf-8"))


def test_an_empty_table_would_be_noticed() -> None:
    full, empty = "| a | b |\n| --- | --- |\n| 1 | 2 |\n", "| c | d |\n| --- | --- |\n\nText"
    assert without_lines(f"{full}\n{empty}") == ["| c | d |"]


def test_what_few_images_hide_is_what_was_measured() -> None:
    """By research/few_images.py; said in the page and by conformask plan."""
    page = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    with (ROOT / "research" / "results" / "few_images.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        hidden, low, high = (round(100 * float(row[name])) for name in ("hidden", "low", "high"))
        assert f"| {row['n']} | {hidden} % | {low} to {high} % |" in page
        if row["n"] in ("12", "25", "100"):
            assert f"{row['n']} hid {hidden} % ({low} to {high} %)" in FEW_HIDE_MORE
