"""The pages of the viewer fit, can be read, and axe-core finds nothing wrong in them."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from screens import violations

pytestmark = [pytest.mark.xdist_group("viewer"), pytest.mark.thorough]
SMALL = """least => [...document.querySelectorAll(
    'button, select, summary, a[href], label:has([type=checkbox]), input:not([type=checkbox])')]
  .filter((e) => e.checkVisibility()).map((e) => [e.getBoundingClientRect(), e.outerHTML])
  .filter(([box]) => Math.min(box.width, box.height) < least).map(([box, html]) => `${box.height} ${html}`)"""
FINGER = 44
"""Least side of what a finger has to meet, in CSS pixels."""


def open_place(page, address, world, place):
    """The gallery or an image, with a dialog where that is asked for."""
    image = f"#/image/{world.partly.name}?threshold=0.03&swipe=truth,overlay"
    page.goto(address + (image if place == "image" else ""))
    page.wait_for_selector("#plane:not([hidden])" if place == "image" else ".thumbnail img")
    if place in ("upload", "help"):
        page.locator(f"#open-{place}").click()
    if place == "image":
        expect(page.locator("#facts .verdict").nth(1)).to_contain_text("threshold")
        for panel in ("contrast", "marks"):
            page.locator(f"#toggle-{panel}").click()
        page.locator("summary").click()


@pytest.mark.parametrize("place", ["gallery", "image", "upload", "help"])
def test_axe_finds_nothing(page, address, world, place):
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        open_place(page, address, world, place)
        assert violations(page) == [], scheme


@pytest.mark.parametrize("size", [(390, 844), (820, 1180)])
@pytest.mark.parametrize("place", ["gallery", "image", "upload"])
def test_fingers_meet_every_target(page, address, world, place, size):
    page.set_viewport_size({"width": size[0], "height": size[1]})
    open_place(page, address, world, place)
    assert page.evaluate(SMALL, FINGER) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_phone_shows_an_image_on_its_first_screen(page, address, world):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(address)
    box = page.locator(".thumbnail").first.bounding_box()
    assert box["y"] + box["height"] / 2 < 844
    formula = page.locator("#gallery-promise code")
    expect(formula).to_be_hidden()
    page.locator("#toggle-promise").click()
    expect(page.locator("#toggle-promise")).to_have_attribute("aria-expanded", "true")
    expect(formula).to_be_visible()
    page.locator("#image-grid a").last.scroll_into_view_if_needed()
    page.locator("#image-grid a").last.click()
    page.wait_for_selector("#plane:not([hidden])")
    box = page.locator("#viewport").bounding_box()
    assert 0 <= box["y"] < box["y"] + box["height"] < 844
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(address)
    expect(formula).to_be_visible()
    expect(page.locator("#toggle-promise")).to_be_hidden()


def test_what_is_beside_an_image_does_not_look_like_it(page, address, world):
    page.goto(f"{address}#/image/{world.partly.name}")
    page.wait_for_selector("#plane:not([hidden])")
    plane, viewport = (page.locator(part).bounding_box() for part in ("#plane", "#viewport"))
    band = {"x": viewport["x"] + 8, "y": viewport["y"] + 8, "width": 60, "height": 60}
    assert band["x"] + band["width"] < plane["x"]
    shown = Image.open(io.BytesIO(page.screenshot(clip=band))).convert("RGB")
    assert len(shown.getcolors()) > 1, "a checkerboard"


def test_keys_can_be_turned_off_and_stay_off(page, address, world):
    page.goto(address)
    page.wait_for_selector("#image-grid li")
    page.keyboard.press("?")
    page.locator("#shortcuts-enabled").uncheck()
    page.locator("#help-dialog .primary").click()
    page.reload()
    page.wait_for_selector("#image-grid li")
    page.keyboard.press("u")
    expect(page.locator("#upload-dialog")).not_to_be_visible()
    page.locator("#open-help").click()
    page.locator("#shortcuts-enabled").check()
    page.locator("#help-dialog .primary").click()
    page.keyboard.press("u")
    expect(page.locator("#upload-dialog")).to_be_visible()


def test_a_link_to_an_image_leads_to_the_image(page, address, world):
    page.goto(f"{address}#/image/{world.partly.name}")
    expect(page.locator("#front-canvas")).to_be_focused()
    page.locator("#next").click()
    expect(page.locator("#image-name")).not_to_have_text(world.partly.name)
    expect(page.locator("#loading")).to_be_hidden()
    expect(page.locator("#next")).to_be_focused()


UNNAMED = """[...document.querySelectorAll('button, select, input, a[href]')]
  .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)"""


@pytest.mark.parametrize("size", [(1280, 800), (820, 1180)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(page, address, world, size, scheme):
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme=scheme)
    for place in ("", f"#/image/{world.shown.names[0]}"):
        page.goto(address + place)
        page.wait_for_selector("#image-grid li" if not place else "#plane:not([hidden])", state="visible")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        paper, ink = (brightness(page, what) for what in ("background-color", "color"))
        assert paper - ink > 0.5 if scheme == "light" else ink - paper > 0.5
    for what in ("#threshold-slider", "#confidence-slider", "#viewport", "#image .sentence"):
        box = page.locator(what).bounding_box()
        assert box["y"] + min(box["height"], 60) <= size[1], what
        assert box["width"] > 150, what
    assert page.evaluate(UNNAMED) == []


def brightness(page, what):
    colour = page.evaluate(f"getComputedStyle(document.body).getPropertyValue('{what}')")
    return np.mean([float(value) for value in re.findall(r"[\d.]+", colour)[:3]]) / 255
