"""What scripts add to a report: saving figures, and sorting and searching the images."""

from io import BytesIO
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from view_worlds import evaluation

from conformask.extras.view import figures
from conformask.extras.view.page import write_report
from conformask.records.evaluation import ReleasePower
from screens import violations

pytestmark = pytest.mark.xdist_group("viewer")


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    shown = evaluation(n=60, examples=(), power=(ReleasePower(0.02, 40, 1, 0.8),), release_share=0.02)
    report = write_report(shown, tmp_path_factory.mktemp("report") / "report.html")
    page = browser.new_page(color_scheme="dark")
    page.goto(report.as_uri())
    yield page
    page.close()


PAPER = Path(__file__).parents[3] / "docs" / "results" / "paper.html"


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page, scheme):
    page.emulate_media(color_scheme=scheme)
    assert violations(page) == []


@pytest.mark.thorough
def test_axe_finds_nothing_in_the_page_of_the_paper(browser):
    page = browser.new_page()
    page.goto(PAPER.as_uri())
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == [], scheme
    page.close()


def saved(page, button):
    with page.expect_download() as download:
        button.click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_figures_are_saved_as_they_stand_on_white(page):
    name, content = saved(page, page.get_by_label("Save How much is hidden, beside the best possible as SVG"))
    assert name == "how-much-is-hidden-beside-the-best-possible.svg"
    assert ElementTree.fromstring(content).get("width") == "480"
    assert b"var(" not in content, "editors of vector graphics know no variables"
    name, content = saved(page, page.get_by_label("Save coverage as PNG"))
    with Image.open(BytesIO(content)) as image:
        assert (name, image.width) == ("coverage.png", 1920)
        assert image.getpixel((0, 0))[:3] == (255, 255, 255)


def test_images_are_sorted_and_searched(page):
    page.get_by_text("All test images").click()
    rows = page.locator(".images tbody tr")
    size = page.locator(".images th button").get_by_text("hidden", exact=True)
    expect(rows).to_have_count(60)
    for order, falling in (("ascending", False), ("descending", True)):
        size.click()
        shown = rows.locator("td:nth-child(5) data").evaluate_all("cells => cells.map(c => +c.value)")
        assert shown == sorted(shown, reverse=falling)
        expect(page.locator(f"th[aria-sort={order}]")).to_have_text("hidden")
    page.get_by_label("Search").fill("IMAGE-001")
    expect(rows.filter(visible=True)).to_have_count(10)
    expect(page.locator("output")).to_have_text("10 of 60")
    page.get_by_label("Search").fill("")
    expect(rows.filter(visible=True)).to_have_count(60)


BOXES = """texts => texts.map(text => {
    const {left, right, top, bottom} = text.getBoundingClientRect()
    return [text.textContent, left, right, top, bottom]
})"""


@pytest.mark.parametrize("width", [1280, 390])
def test_no_label_of_a_figure_covers_another(browser, width):
    page = browser.new_page(viewport={"width": width, "height": 400})
    curve = tuple((place, 0.4 - place) for place in np.linspace(0.01, 0.11, 11))
    for threshold in (0.01, 0.0342211, 1.23457e-05, 0.0434567, 0.0712345, 0.112345):
        shown = evaluation(n=60, examples=(), size_by_threshold=curve, threshold=threshold)
        for figure in (figures.size_by_threshold, figures.distances):
            page.set_content(f'<body style="font-family: system-ui, sans-serif">{figure(shown)}')
            boxes = page.locator("text").evaluate_all(BOXES)
            for (one, left, right, top, bottom), (other, *its) in combinations(boxes, 2):
                apart = right <= its[0] or its[1] <= left or bottom <= its[2] or its[3] <= top
                assert apart, (threshold, one, other)
            assert all(left >= 0 and right <= width for _, left, right, _, _ in boxes), threshold
    page.close()
