"""For those who do not see the page, have no mouse, or hold it in a hand: axe-core finds nothing wrong."""

import pytest
from playwright.sync_api import expect

from axe import violations

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
