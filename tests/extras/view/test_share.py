"""The page that needs no installation: what is in it, and what a browser shows from file://."""

import io
import json
import re
from base64 import b64decode

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

import conformask as cm
from conformask.errors import InvalidArgumentError, OutputError
from conformask.extras.view.share import page as page_of, picture_size, shared_case
from screens import violations

pytestmark = pytest.mark.xdist_group("viewer")


def data_of(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:)", text), "nothing is loaded from elsewhere"
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(b64decode(uri.partition(",")[2]))))


@pytest.fixture(scope="module")
def shared(world, tmp_path_factory):
    return cm.share(world.masker, world.shown, tmp_path_factory.mktemp("share") / "look.html", images=3)


def test_masks_in_the_file_are_those_of_the_maskers_at_every_threshold(world, shared):
    (data,) = data_of(shared)["cases"]
    assert data["states"][data["calibrated"]]["threshold"] == world.masker.card.threshold
    assert data["states"][data["calibrated"]]["sentence"] == world.masker.sentence
    assert len(data["states"]) > 10
    assert len(data["images"]) == 3
    by_name = {triplet.name: triplet for triplet in world.shown}
    for image in data["images"]:
        triplet, codes = by_name[image["name"]], decoded(image["codes"])
        for position, state in enumerate(data["states"]):
            moved = world.masker.recalibrate(threshold=state["threshold"])
            mask = np.asarray(moved(triplet))
            np.testing.assert_array_equal(codes > position, mask < 1)
            assert image["hidden"][position] == pytest.approx(1 - mask.mean(), abs=1e-6)
            loss = np.abs(mask * (triplet.y - triplet.y_hat)).mean()
            assert image["loss"][position] == pytest.approx(loss, rel=1e-4, abs=1e-9)
            assert image["met"][position] == (loss <= state["threshold"] * (1 + 1e-6))
            exploratory = position != data["calibrated"]
            assert state["sentence"].startswith("If this had been fixed beforehand") == exploratory


def test_a_browser_shows_it_without_a_server(browser, shared):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
    page.goto(shared.as_uri())
    page.wait_for_function("() => document.getElementById('canvas').width > 100")
    sentence = page.locator("#sentence")
    assert sentence.text_content().startswith("In at least 9 of 10 new images, ")
    before = page.locator("#facts dd").first.text_content()
    page.locator("#threshold").fill("0")
    assert page.locator("#facts dd").first.text_content() != before
    assert sentence.text_content().startswith("If this had been fixed beforehand")
    page.get_by_role("button", name="As calibrated").click()
    assert page.locator("#facts dd").first.text_content() == before
    assert page.locator("figure:visible").count() == 3
    page.locator("#left").select_option("What the network was given")
    expect(page.locator("#first")).to_have_attribute("aria-label", re.compile("What the network was given$"))
    page.get_by_role("button", name="hatched").click()
    assert page.get_by_role("button", name="hatched").get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert errors == []
    assert violations(page) == []
    page.close()


def test_pictures_appear_on_a_page_that_is_shown_late(browser, shared, tmp_path):
    """A page without a layout when its pictures are loaded, as in a tab in the background."""
    late = tmp_path / "late.html"
    text = shared.read_text(encoding="utf-8")
    assert ">Loading 3 images …<" in text
    late.write_text(
        text.replace('<html lang="en">', '<html lang="en" style="display: none">'), encoding="utf-8"
    )
    page = browser.new_page()
    page.goto(late.as_uri())
    page.wait_for_function("() => document.getElementById('canvas').width !== 300")
    page.evaluate("document.documentElement.style.display = ''")
    page.wait_for_function("() => document.getElementById('canvas').height > 100")
    page.close()


@pytest.mark.thorough
def test_a_page_of_several_cases_shows_each(world, browser, tmp_path):
    other = world.masker.recalibrate(threshold=2 * world.masker.card.threshold)
    cases = [
        shared_case(masker, world.shown, 2, title, note)
        for masker, title, note in ((world.masker, "One", "Mine."), (other, "Two", "Yours."))
    ]
    path = tmp_path / "try.html"
    path.write_text(page_of(cases), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    for case, name in zip(cases, ("One", "Two"), strict=True):
        page.get_by_role("button", name=name).click()
        assert page.locator("#sentence").text_content() == case.states[case.calibrated]["sentence"]
        assert page.locator("#note").text_content() == case.note
        assert page.locator("#images button").count() == 2
        most = max(image.hidden[case.calibrated] for image in case.images)
        assert page.locator("#facts dd").first.text_content() == f"{100 * most:.1f} %"
    assert violations(page) == []
    page.close()


def test_names_cannot_end_the_script(world, tmp_path):
    name = "x<!--<script>"
    renamed = cm.Triplets.from_arrays(
        *([np.moveaxis(getattr(world.shown[0], role), 0, -1)] for role in ("x", "y_hat", "y")), names=[name]
    )
    path = cm.share(world.masker, renamed, tmp_path / "look.html")
    assert data_of(path)["cases"][0]["images"][0]["name"] == name


def test_files_of_others_are_not_replaced(world, tmp_path):
    path = tmp_path / "mine.html"
    path.write_text("mine")
    with pytest.raises(OutputError):
        cm.share(world.masker, world.shown, path)
    assert path.read_text() == "mine"
    with pytest.raises(InvalidArgumentError, match=r"ends with \.html"):
        cm.share(world.masker, world.shown, tmp_path / "look.txt")


@pytest.mark.parametrize(
    ("shape", "down", "right", "size"),
    [((80, 60), 1, 1, (60, 80)), ((80, 60), 0.05, 0.05, (60, 80)), ((10, 60), 3.0, 1.0, (60, 30)),
     ((2000, 1000), 1, 1, (256, 512))],
)  # fmt: skip
def test_pictures_have_the_shape_of_what_they_show(shape, down, right, size):
    assert picture_size(shape, down, right) == size
