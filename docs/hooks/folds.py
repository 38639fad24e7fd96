"""Long tables of results and earlier changes are folded: a page can be taken in, a row is one click away."""

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

PAPER = (
    "ratios-of-mask-sizes-beside-the-papers",
    "differences",
    "coverage",
    "coverage-by-field",
    "where-our-reading-of-the-paper-had-a-choice",
    "settings",
)
FOLDED = {
    "results/losses.md": ("what-was-chosen-by",),
    "results/smaller-masks.md": ("what-was-tried-on-the-selection-images",),
    "results/table-1.md": PAPER,
    "results/paper-cpu.md": PAPER,
    "changelog.md": ("010-unreleased",),
}
"""Sections by page."""
SECTION = r'(<h2 id="{}">.*?</h2>)(.*?)(?=<h2 |\Z)'


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    for section in FOLDED.get(page.file.src_uri, ()):
        folded = r'<details class="fold"><summary>\1</summary>\2</details>'
        html, count = re.subn(SECTION.format(section), folded, html, flags=re.DOTALL)
        if not count:
            raise ValueError(f"{page.file.src_uri} has no section #{section}: see FOLDED in {__file__}")
    return html
