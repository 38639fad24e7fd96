"""The built site: whole references, nothing from another host, nothing that axe-core finds wrong."""

import html
import json
import re
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import expect

import conformask
from conformask.cli import verbs_of
from screens import violations

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
    assert [verb for verb in verbs_of([]) if f'id="conformask-{verb}"' not in page] == []
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
def test_the_first_page_has_no_brackets_within_brackets(site):
    page = read(site / "index.html")
    assert "(how the photograph was chosen: <code>docs/hero.py</code>)" in page


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


PAGES = (
    "index",
    "promises",
    "gallery",
    "how-to/deploy",
    "reference/command-line",
    "reference/python",
    "reference/python/extending",
    "reference/python/masks",
    "results/in-short",
    "results/maskbench",
    "results/table-1",
    "reference/formulas",
)
"""Pages with a form, pictures, code, wide tables, folded sections and names of objects."""
WIDTHS = (1280, 390)
CUT_CODE = """[...document.querySelectorAll("pre > code")]
  .filter((code) => code.scrollWidth > code.clientWidth).map((code) => code.textContent)"""


@pytest.fixture(scope="module")
def page(browser):
    page = browser.new_page(reduced_motion="reduce")
    yield page
    page.close()


def settled(page):
    """The page when scripts have run: bars over code and boxes around tables have their roles."""
    has_roles = "document.querySelector('.md-code__nav[role]')"
    page.wait_for_function(f"!document.querySelector('pre > code') || {has_roles}")
    return page


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(page, site, name, scheme, width):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((site / f"{name}.html").as_uri())
    assert violations(settled(page)) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(CUT_CODE) == []


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_where_something_is_open(page, site, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto((site / "gallery.html").as_uri())
    page.locator(".enlarge").first.click()
    assert violations(page) == []
    page.goto((site / "promises.html").as_uri())
    page.get_by_text("More: eight other guarantees").click()
    page.get_by_label("conditional_mean").check()
    expect(page.get_by_label("each scanner, stain or organ")).to_be_disabled()
    assert violations(settled(page)) == []


@pytest.fixture
def served(site):
    """The address of the site, whose search does not work from a folder."""
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Print nothing."""


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_search_and_where_an_address_is_wrong(page, served, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{served}/promises.html")
    settled(page).keyboard.press("Control+k")
    page.keyboard.type("threshold")
    page.get_by_role("dialog", name="Search").get_by_role("option").nth(3).wait_for()
    assert violations(page) == []
    page.goto(f"{served}/404.html")
    assert violations(page) == []


@pytest.mark.thorough
def test_code_is_copied_as_it_is_written(browser, served):
    """Its lines wrap as blocks of their own, which must not become empty lines."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{served}/reference/python.html")
    code = page.locator("pre > code").first
    page.locator(".md-code__button").first.click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()).includes('import conformask')")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == str(code.text_content()).strip()
    context.close()


@pytest.fixture
def gallery(page, site):
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto((site / "gallery.html").as_uri())
    return page


@pytest.mark.thorough
def test_a_picture_opens_by_enter_and_focus_comes_back(gallery):
    button, dialog = gallery.locator(".enlarge").nth(1), gallery.get_by_role("dialog", name="Picture: ")
    button.focus()
    gallery.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    for _ in range(6):
        gallery.keyboard.press("Tab")
        inside = "document.activeElement == document.body || !!document.activeElement.closest('dialog')"
        assert gallery.evaluate(inside)
    gallery.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()


@pytest.mark.thorough
def test_arrows_lead_from_picture_to_picture(gallery):
    buttons = gallery.locator(".enlarge")
    many, alternatives = buttons.count(), buttons.locator("img").evaluate_all("all => all.map((e) => e.alt)")
    assert many == 6
    buttons.last.click()
    caption, large = gallery.locator(".lightbox-bar p"), gallery.locator(".lightbox img")
    expect(caption).to_have_text(f"{many} of {many}: {alternatives[-1]}")
    gallery.keyboard.press("ArrowRight")
    expect(caption).to_have_text(f"1 of {many}: {alternatives[0]}")
    expect(large).to_have_attribute("alt", alternatives[0])
    gallery.keyboard.press("ArrowLeft")
    gallery.get_by_role("button", name="Previous picture").click()
    expect(caption).to_have_text(f"{many - 1} of {many}: {alternatives[-2]}")


@pytest.mark.thorough
def test_a_click_closes_it(gallery):
    dialog = gallery.locator(".lightbox")
    for place in (".lightbox img", ".lightbox [aria-label=Close]"):
        gallery.locator(".enlarge").first.click()
        assert gallery.locator(".lightbox img").bounding_box()["width"] > 1000
        gallery.locator(place).click()
        expect(dialog).to_be_hidden()


@pytest.mark.thorough
def test_wide_tables_are_reached_and_scrolled_by_keys(page, site):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto((site / "results" / "table-1.html").as_uri())
    box = page.locator(".md-typeset__scrollwrap[tabindex]").first
    box.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.activeElement.scrollLeft > 0")
