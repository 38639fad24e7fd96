"""Pages that lie elsewhere in the repository than in the site; links are written as in the repository.

They lie outside docs/, or beside a file that would get their name: paper.md beside paper.html.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {
    "benchmarks/README.md": "benchmarks.md",
    "research/README.md": "research.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "docs/results/paper.md": "results/table-1.md",
    "CHANGELOG.md": "changelog.md",
    "src/conformask/scorers/packaged.md": "packaged-scorer.md",
}
"""Their places in the repository, and in the site."""
LINK = re.compile(r"(?<=\]\()([^)#:]+\.md)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    root = Path(config.config_file_path).parent
    for source, name in PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(root / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    name = page.file.src_uri
    if name == "changelog.md":
        page.meta["hide"] = ["toc"]  # two headings: the lines may be longer
    source = {called: place for place, called in PAGES.items()}.get(name, f"docs/{name}")

    def in_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[0]))
        called = PAGES.get(target, target.removeprefix("docs/"))
        return posixpath.relpath(called, posixpath.dirname(name) or ".")

    return LINK.sub(in_site, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """The paper's figures are a page by themselves, whole in one file; here its first word leads home."""
    page = Path(config.site_dir) / "results" / "paper.html"
    first = '<p class="eyebrow">'
    linked = f'{first}<a style="color: inherit" href="../index.html">conformask</a>'
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace(f"{first}conformask", linked, 1), encoding="utf-8")
