"""A how-to page can be read at one sitting, and shows what it is about."""

import re
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parents[2] / "docs" / "how-to").glob("*.md"))
WORDS, BYTES = 1150, 200_000
"""The most of a page, and of a picture."""


def test_pages_are_found() -> None:
    assert len(PAGES) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_short(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").split()) <= WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_small_pictures(page: Path) -> None:
    pictures = re.findall(r"^!\[(.*)\]\((.*)\)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert 1 <= len(pictures) <= 2
    for described, picture in pictures:
        assert len(described.split()) >= 5
        assert (page.parent / picture).stat().st_size < BYTES
