"""Maps beside y_hat: a view of their own, where the images have them."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

import conformask as cm
from conformask.extras.view import viewed_image as opened
from conformask.images.pictures import as_bytes, heat
from conformask.images.triplets import Triplets
from screens import violations

pytestmark = pytest.mark.xdist_group("viewer")


@pytest.fixture(scope="module", params=[1, 3], ids=["one map", "a map for each channel"])
def world(request, tiles):
    """Maps far from [0, 1]: confidences that are low where the output changes."""
    x, y_hat, y = ([np.moveaxis(getattr(t, role), 0, -1) for t in tiles] for role in ("x", "y_hat", "y"))
    changes = [np.hypot(*np.gradient(image, axis=(0, 1))) for image in y_hat]
    maps = [40 - 900 * (each if request.param == 3 else each.mean(axis=-1)) for each in changes]
    images = Triplets.from_arrays(x, y_hat, y, cues=maps, names=list(tiles.names))
    calibration, selection, shown = (images.select(range(start, len(tiles), 3)) for start in range(3))
    masker = cm.calibrate(cm.Given("trusted"), calibration, selection=selection, threshold="q0.3", loss="l1")
    return SimpleNamespace(masker=masker, shown=shown.select(range(0, len(shown), len(shown) // 6)))


@pytest.mark.parametrize("most", [opened.MOST_DECODED, 0], ids=["in memory", "in files"])
def test_the_map_is_drawn_between_its_quantiles(world, client, monkeypatch, most):
    monkeypatch.setattr(opened, "MOST_DECODED", most)
    triplet = world.shown[1]
    address = f"/api/images/{triplet.name}"
    low, high = client.get(address).json()["map_range"]
    np.testing.assert_allclose((low, high), np.quantile(triplet.layers["cues"], [0.005, 0.995]), rtol=1e-6)
    drawn = np.asarray(Image.open(io.BytesIO(client.get(f"{address}/map.png").content)))
    mean = triplet.layers["cues"].mean(axis=0, keepdims=True)
    np.testing.assert_array_equal(drawn, heat(as_bytes((mean - low) / (high - low))))
    values = client.get(f"{address}/values", params={"x": 5, "y": 7}).json()
    np.testing.assert_allclose(values["map"], triplet.layers["cues"][:, 7, 5])


def npy(image):
    buffer = io.BytesIO()
    np.save(buffer, np.moveaxis(image, 0, -1))
    return buffer.getvalue()


def test_an_upload_brings_its_map(world, client):
    """With the values of its file, and the mask that the image has in the collection."""
    assert client.get("/api/session").json()["upload"]["needs"] == ["cues"]
    triplet = world.shown[1]
    images = {"x": triplet.x, "y_hat": triplet.y_hat, "cues": triplet.layers["cues"]}
    files = {role: ("mine.npy", npy(image)) for role, image in images.items()}
    assert client.post("/api/uploads", files=files).json() == {"name": "mine"}
    sizes = [
        client.get("/api/promise", params={"image": name}).json()["opening"]["size"]
        for name in ("mine", triplet.name)
    ]
    assert sizes[0] == sizes[1]
    del files["cues"]
    answer = client.post("/api/uploads", files=files)
    assert answer.status_code == 400
    assert "comes without the maps that its score needs" in answer.json()["error"]


@pytest.fixture
def opened_page(page, address, world):
    page.goto(f"{address}#/image/{world.shown.names[1]}")
    page.wait_for_selector("#plane:not([hidden])")
    return page


@pytest.mark.quick(1)
def test_the_map_is_a_view_of_the_page(world, opened_page):
    page, triplet = opened_page, world.shown[1]
    page.keyboard.press("7")
    page.wait_for_selector("#front-canvas[data-view=map]")
    low, high = (
        f"{float(f'{value:.3g}'):g}" for value in np.quantile(triplet.layers["cues"], [0.005, 0.995])
    )
    expect(page.locator("#legend")).to_contain_text(f"black = {low} to bright = {high}: all its values")
    page.locator("#front-canvas").hover(position={"x": 40, "y": 40})
    readout = page.locator("#readout span", has_text="Map")
    shown = [float(value) for value in readout.locator("b").inner_text().split()]
    x, y = (int(page.locator("#readout b").nth(place).inner_text()) for place in (0, 1))
    np.testing.assert_allclose(shown, triplet.layers["cues"][:, y, x], rtol=1e-3)
    page.locator("#toggle-swipe").click()
    expect(page.locator("#right-view")).to_have_value("map")


@pytest.mark.thorough
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_view_fits_into_the_toolbar(opened_page, width, height):
    page = opened_page
    page.set_viewport_size({"width": width, "height": height})
    page.locator("#view-buttons [data-view=map]").click()
    tops = page.evaluate("[...document.querySelectorAll('#view-buttons *')].map((e) => e.offsetTop)")
    assert len(tops) == 7
    assert len(set(tops)) == 1
    if width > 1000:
        zoom, views = (page.locator(what).bounding_box()["y"] for what in ("#zoom-in", "#view-buttons"))
        assert zoom == views, "one line"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == [], scheme
