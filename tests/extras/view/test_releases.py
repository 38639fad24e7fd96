"""Images that are released and held back: what the server answers, and what the page shows."""

from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import expect

from axe import violations
from conformask.extras.view.app import application
from conformask.extras.view.session import Session
from conformask.extras.view.viewed_image import CollectionImage
from conformask.masker.release import release
from conformask.records.release import Release

pytestmark = pytest.mark.xdist_group("viewer")

OURS = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def released(world) -> Release:
    found = release(world.masker, world.shown, 0.05)
    assert 0 < found.n_released < len(found.images)
    return found


@pytest.fixture
def judged(world, released) -> Session:
    return Session(world.masker, world.shown, released=released)


def asked(session: Session, path: str, **parameters) -> dict:
    return TestClient(application(session, 8000, None), base_url=OURS).get(path, params=parameters).json()


def test_the_server_says_what_was_judged_of_each_image(judged, released):
    told = asked(judged, "/api/images")
    assert told["release"]["sentence"].startswith(
        "Released: 9 of 12 images. Held back: 3. Of the images released"
    )
    assert told["release"]["formula"] == released.formula
    flags = {entry["name"]: entry["released"] for entry in told["images"]}
    assert flags == {image.name: image.released for image in released.images}
    for image in released.images:
        promised = asked(judged, "/api/promise", image=image.name)["release"]
        assert (promised["sentence"], promised["formula"]) == (released.sentence, released.formula)
        facts = promised["image"]
        assert (facts["released"], facts["p_value"]) == (image.released, pytest.approx(image.p_value))
        assert tuple(facts["reasons"]) == image.reasons


def test_nothing_is_said_of_other_masks_and_other_images(judged, world):
    """Other masks: at another setting. Other images: those that were uploaded, even with the same pixels."""
    name = judged.add(CollectionImage(world.shown.select([0]), 0))
    assert asked(judged, "/api/promise", image=name)["release"] is None
    assert {entry["released"] for entry in asked(judged, "/api/images")["images"]} == {True, False, None}
    ours = world.shown.names[0]
    assert asked(judged, "/api/promise", image=ours)["release"] is not None
    assert asked(judged, "/api/promise", image=ours, confidence=0.8)["release"] is None


def test_nothing_is_released_where_the_truth_says_otherwise(broken, released):
    broken = Session(broken.masker, broken.triplets, released=released)
    assert asked(broken, "/api/images")["release"] is not None
    list(broken.look_through())
    told = asked(broken, "/api/images")
    assert told["release"] is None
    assert {entry["released"] for entry in told["images"]} == {None}
    assert asked(broken, "/api/promise", image=told["images"][0]["name"])["release"] is None


@pytest.mark.thorough
def test_without_a_release_the_page_says_nothing(page, address, world):
    page.goto(f"{address}#/?held=true")
    expect(page.locator("#image-grid li")).to_have_count(len(world.shown))
    expect(page.locator("#held-back-label")).to_be_hidden()
    expect(page.locator(".released, .release")).to_have_count(0)


@pytest.fixture
def release_page(browser, serving, watching, judged):
    """A page that shows the released images, and its address."""
    list(judged.look_through())
    with serving(judged) as address, watching(browser, address.partition("?")[0]) as page:
        yield page, address


@pytest.mark.thorough
def test_the_gallery_marks_them_and_shows_those_held_back(release_page, released, world):
    page, address = release_page
    page.goto(f"{address}#/?sort=name")
    expect(page.locator("#gallery-promise .release")).to_have_text(released.summary)
    expect(page.locator("#gallery-promise code").first).to_have_text(released.formula)
    cards = page.locator("#image-grid li")
    by_name = {image.name: image.released for image in released.images}
    expect(cards).to_have_count(len(by_name))
    for card in cards.all():
        text = "released" if by_name[card.locator(".card-title").inner_text()] else "held back"
        expect(card.locator(".released")).to_have_text(text)
    page.locator("#held-back-only").check()
    held_back = [name for name in world.shown.names if not by_name[name]]
    assert page.locator("#image-grid .card-title").all_text_contents() == held_back
    page.reload()
    expect(cards).to_have_count(len(held_back))
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == [], scheme


@pytest.mark.thorough
def test_an_image_has_its_reasons_beside_its_facts(release_page, released):
    page, address = release_page
    worst = next(image for image in released.images if not image.released)
    best = next(image for image in released.images if image.released)
    page.goto(f"{address}#/image/{quote(worst.name)}")
    facts = page.locator("#facts div")
    expect(facts.filter(has_text="Release")).to_contain_text(f"held back, p = {worst.p_value:.3g}")
    expect(facts.filter(has_text="Why")).to_contain_text("; ".join(worst.reasons))
    expect(page.locator("#image-promise .release")).to_have_text(released.sentence)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(f"{address}#/image/{quote(best.name)}?confidence=0.8")
    expect(page.locator("#image-promise .promise-status")).to_have_text("Exploratory")
    expect(facts.filter(has_text="Release")).to_have_count(0)
    page.locator("#reset").click()
    expect(facts.filter(has_text="Release")).to_contain_text("released, p = ")
    expect(facts.filter(has_text="Why")).to_have_count(0)
