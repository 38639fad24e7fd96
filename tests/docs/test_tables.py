"""Tables of the documentation have lines: a script that writes a page may lose them without an error."""

import re
from pathlib import Path

import pytest

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
