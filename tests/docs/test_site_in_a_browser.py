"""The built site, opened from its folder: axe-core finds nothing wrong, and pictures open large."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from playwright.sync_api import expect

from axe import violations

pytestmark = [pytest.mark.xdist_group("site"), pytest.mark.thorough]
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


def test_a_click_closes_it(gallery):
    dialog = gallery.locator(".lightbox")
    for place in (".lightbox img", ".lightbox [aria-label=Close]"):
        gallery.locator(".enlarge").first.click()
        assert gallery.locator(".lightbox img").bounding_box()["width"] > 1000
        gallery.locator(place).click()
        expect(dialog).to_be_hidden()


def test_wide_tables_are_reached_and_scrolled_by_keys(page, site):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto((site / "results" / "table-1.html").as_uri())
    box = page.locator(".md-typeset__scrollwrap[tabindex]").first
    box.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.activeElement.scrollLeft > 0")
