"""The built site: whole references, and nothing in it comes from another host."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import conformask
from conformask.cli import VERBS

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("site")
"""Built once."""
FOREIGN = re.compile(r"(https?:)?//")


class Assets(HTMLParser):
    """What a browser fetches to show a page; links that a person follows are none."""

    def __init__(self, page):
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        names = ("src", "srcset", "data", "poster", *(["href", "xlink:href"] if tag != "a" else []))
        if (tag, given.get("rel")) not in (("link", "canonical"), ("link", "prev"), ("link", "next")):
            self.found += [value for name in names if (value := given.get(name))]


def foreign(page):
    return [address for address in Assets(page).found if FOREIGN.match(address)]


def foreign_in_style(style):
    return re.findall(r"(?:url\(|@import )\s*['\"]?((?:https?:)?//[^'\")]*)", style)


def read(path):
    return path.read_text(encoding="utf-8")


@pytest.mark.thorough
def test_nothing_comes_from_another_host(site):
    pages, styles = list(site.rglob("*.html")), list(site.rglob("*.css"))
    assert len(pages) > 10
    assert {page.name: found for page in pages if (found := foreign(read(page)))} == {}
    assert {style.name: found for style in styles if (found := foreign_in_style(read(style)))} == {}


@pytest.mark.thorough
def test_no_page_needs_the_script_that_the_theme_fetches(site):
    assert not [page for page in site.rglob("*.html") if 'class="mermaid"' in read(page)]


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/a.css">',
        '<img src="http://example/a.png">',
    ],
)
def test_another_host_would_be_noticed(page):
    assert foreign(page)


def test_a_link_to_follow_is_no_asset():
    assert not foreign('<a href="https://example.org">')


def test_another_host_in_a_style_would_be_noticed():
    assert foreign_in_style("@font-face { src: url(https://fonts.example/a.woff2) }")


@pytest.mark.thorough
def test_every_verb_is_in_the_reference(site):
    page = read(site / "reference" / "command-line.html")
    assert [verb for verb in VERBS if f'id="conformask-{verb}"' not in page] == []
    assert "<code>--threshold</code> STR" in page
    assert "conformask calibrate [OPTIONS] RUN [DATA]" in page


def reference_of_python(site):
    """All pages of it, one after the other."""
    return "\n".join(map(read, sorted((site / "reference" / "python").glob("*.html"))))


@pytest.mark.thorough
def test_every_public_name_is_in_the_reference(site):
    pages = reference_of_python(site)
    assert [name for name in conformask.__all__ if f'id="conformask.{name}"' not in pages] == []


@pytest.mark.thorough
def test_the_reference_begins_with_ten_functions_and_leads_to_every_name(site):
    page = read(site / "reference" / "python.html")
    first, every = page.split('<h2 id="every-step">')
    assert first.count("<tr>") == 11
    assert all(f'#conformask.{name}"><code>' in every for name in conformask.__all__)
    steps = {path.stem for path in (ROOT / "docs" / "reference" / "python").glob("*.md")}
    assert set(re.findall(r'href="python/(\w+)\.html"', every.split("</table>")[0])) == steps


@pytest.mark.thorough
def test_shapes_are_shown_as_they_are_written(site):
    page = html.unescape(re.sub(r"<[^>]+>", "", reference_of_python(site)))
    assert 'Float[Tensor, "n *g"]' in page


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("word", "page"),
    [
        ("Hounsfield", "how-to/radiology.html"),
        ("hallucinat", "index.html"),
        ("hallucination", "how-to/no-clean-truth.html"),
        ("super-resolution", "how-to/photographs.html"),
        ("inpainting", "how-to/photographs.html"),
        ("denoising", "how-to/microscopy.html"),
        ("virtual staining", "how-to/microscopy.html"),
        ("confidence map", "how-to/maps-and-samples.html"),
        ("uncertainty", "how-to/maps-and-samples.html"),
    ],
)
def test_search_finds_what_newcomers_ask_for(site, word, page):
    items = json.loads(read(site / "search.json"))["items"]
    found = {item["location"].partition("#")[0] for item in items if word in item["title"] + item["text"]}
    assert page in found
    assert not [name for name in found if name.startswith("results/")]


@pytest.mark.thorough
def test_examples_of_the_reference_are_code(site):
    pages = reference_of_python(site)
    assert pages.count("Examples:</") == pages.count('class="language-pycon highlight"') > 40
    assert 'class="example"' not in pages, "a section called Example is an admonition"


@pytest.mark.thorough
def test_the_papers_figures_lead_home(site):
    assert 'href="../index.html">conformask</a>' in read(site / "results" / "paper.html")


@pytest.mark.thorough
def test_a_wrong_address_leads_somewhere(site):
    content = read(site / "404.html").partition("<h1>")[2].partition("</article>")[0]
    targets = re.findall(r'href="/([^"]+)"', content)
    assert len(targets) == 6
    assert [target for target in targets if not (site / target).exists()] == []


@pytest.mark.thorough
def test_links_lead_to_headings(site):
    """A missing page is an error of zensical build --strict, a missing heading is none."""
    names = {page: set(re.findall(r'\bid="([^"]+)"', read(page))) for page in site.rglob("*.html")}
    for page in names:
        for target, anchor in re.findall(r'href="([^":]*)#([^"]+)"', read(page)):
            there = (page.parent / target).resolve() if target else page
            assert there not in names or anchor in names[there], f"{page.name}: {target}#{anchor}"
