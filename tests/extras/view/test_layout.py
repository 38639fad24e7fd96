"""On a laptop and a tablet, light and dark, and for those who do not see it."""

import re

import numpy as np
import pytest

pytestmark = [pytest.mark.xdist_group("viewer"), pytest.mark.thorough]

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


def brightness(page, what: str) -> float:
    colour = page.evaluate(f"getComputedStyle(document.body).getPropertyValue('{what}')")
    return np.mean([float(value) for value in re.findall(r"[\d.]+", colour)[:3]]) / 255
